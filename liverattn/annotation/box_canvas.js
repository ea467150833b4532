// An image with boxes to draw, move, resize and delete. Everything under the hand happens here, without asking the
// server; it is told which box a finished gesture changed ("box") and which key was pressed ("key"), always with the
// case that was on the screen. Coordinates are pixels of the original image.
const REACH = 9; // screen pixels around an edge that take hold of it
const CURSORS = { "0,0": "move", "-1,-1": "nwse-resize", "1,1": "nwse-resize", "1,-1": "nesw-resize", "-1,1": "nesw-resize",
  "-1,0": "ew-resize", "1,0": "ew-resize", "0,-1": "ns-resize", "0,1": "ns-resize" };

export default {
  template: `
    <div class="canvas" @wheel.prevent="wheel" @contextmenu.prevent>
      <svg ref="svg" :class="{ ready: loaded === shown.url }" :viewBox="view.join(' ')" :style="{ cursor }"
           @pointerdown="press" @pointermove="move" @pointerup="finish" @pointercancel="drag = null">
        <image :key="shown.url" :href="shown.url" :width="shown.width" :height="shown.height"
               :style="{ filter: 'brightness(' + gain + ')' }" @load="loaded = shown.url" @error="explain" />
        <g v-for="box in shown.suggestions" class="suggestion">
          <rect v-bind="rectangle(box)" /><text :x="box[0]" :y="box[1] - 5 * pixel" :font-size="13 * pixel">suggestion</text>
        </g>
        <rect v-for="(box, i) in visible" class="box" :class="{ selected: i === selected }" v-bind="rectangle(box)" />
        <circle v-for="[x, y] in handles" class="handle" :cx="x" :cy="y" :r="4.5 * pixel" />
      </svg>
      <div v-if="failure" class="failure">{{ failure }}</div>
      <div class="view">{{ status }}</div>
    </div>`,
  props: { shown: Object, keys: Array },
  data() {
    return { boxes: [], selected: null, drag: null, view: [0, 0, 1, 1], gain: 1, edit: 0, loaded: null, failure: "",
      pixel: 1, cursor: "crosshair", pointer: null };
  },
  computed: {
    visible() {
      if (!this.drag?.box) return this.boxes;
      return this.boxes.toSpliced(this.drag.index, 1, this.drag.box);
    },
    handles() {
      if (this.selected === null || !this.visible[this.selected]) return [];
      const [x0, y0, x1, y1] = this.visible[this.selected], x = (x0 + x1) / 2, y = (y0 + y1) / 2;
      return [[x0, y0], [x, y0], [x1, y0], [x1, y], [x1, y1], [x, y1], [x0, y1], [x0, y]];
    },
    status() {
      const zoom = this.shown.width / this.view[2];
      return [zoom > 1.01 && `zoom ${zoom.toFixed(1)}`, this.gain !== 1 && `contrast ${this.gain.toFixed(2)}`]
        .filter(Boolean).join("   ");
    },
  },
  watch: {
    shown: { immediate: true, handler(now, before) {
      const isOther = now.case !== before?.case;
      if (isOther) {
        this.drag = null;
        this.failure = "";
        this.view = [0, 0, now.width, now.height];
      }
      // An answer to an older gesture than the last one must not take that one's boxes away.
      if (isOther || now.edit >= this.edit) {
        this.boxes = now.boxes;
        if (this.drag?.before) this.follow();
        if (isOther || !this.boxes[this.selected]) this.selected = null;
      }
      for (const url of now.upcoming) new Image().src = url;
      this.$nextTick(this.measure);
    } },
    view() { this.$nextTick(this.measure); },
  },
  mounted() {
    window.addEventListener("keydown", this.key);
    new ResizeObserver(this.measure).observe(this.$refs.svg);
  },
  unmounted() { window.removeEventListener("keydown", this.key); },
  methods: {
    measure() { // image pixels per screen pixel
      const scale = this.$refs.svg?.getScreenCTM()?.a;
      if (scale) this.pixel = 1 / scale;
    },
    rectangle([x0, y0, x1, y1]) { return { x: x0, y: y0, width: x1 - x0, height: y1 - y0 }; },
    at(event) {
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.$refs.svg.getScreenCTM().inverse());
      return [x, y];
    },
    async explain() { this.failure = await (await fetch(this.shown.url)).text(); },

    // What lies under the pointer: [index of the box, [-1 0 1, -1 0 1]], the side that is held in x and in y.
    under([x, y]) {
      const order = [...this.boxes.keys()].reverse();
      if (this.selected !== null) order.unshift(this.selected);
      for (const edges of [true, false]) // edges of any box before insides
        for (const i of order) {
          const [x0, y0, x1, y1] = this.boxes[i];
          const side = (value, low, high) => {
            const reach = Math.min(REACH * this.pixel, (high - low) / 4); // small boxes can be moved, too
            const outer = REACH * this.pixel;
            if (value < low - outer || value > high + outer) return null;
            return value < low + reach ? -1 : value > high - reach ? 1 : 0;
          };
          const held = [side(x, x0, x1), side(y, y0, y1)];
          if (!held.includes(null) && edges === (held[0] !== 0 || held[1] !== 0)) return [i, held];
        }
      return null;
    },
    press(event) {
      if (this.drag || this.loaded !== this.shown.url) return; // nobody boxes what is not to be seen
      const start = this.at(event);
      this.$refs.svg.setPointerCapture(event.pointerId);
      if (event.button !== 0) {
        this.drag = { start };
        return;
      }
      const found = event.shiftKey ? null : this.under(start);
      const index = found ? found[0] : this.boxes.length;
      const before = found ? this.boxes[index] : [...start, ...start];
      this.drag = { start, index, isNew: !found, held: found ? found[1] : [1, 1], before, box: found ? before : null };
      this.selected = found ? index : null;
    },
    move(event) {
      const [x, y] = (this.pointer = this.at(event));
      if (!this.drag) {
        const found = event.shiftKey ? null : this.under([x, y]);
        this.cursor = found ? CURSORS[found[1].join()] : "crosshair";
        return;
      }
      const { start, before, held } = this.drag, dx = x - start[0], dy = y - start[1];
      if (!before) { // the other mouse buttons shift the picture
        this.view = [this.view[0] - dx, this.view[1] - dy, this.view[2], this.view[3]];
        return;
      }
      let [x0, y0, x1, y1] = before;
      if (held[0] === 0 && held[1] === 0) {
        const shift = (by, low, high, size) => Math.min(Math.max(by, -low), size - high);
        const sx = shift(dx, x0, x1, this.shown.width), sy = shift(dy, y0, y1, this.shown.height);
        this.drag.box = [x0 + sx, y0 + sy, x1 + sx, y1 + sy];
        return;
      }
      if (held[0] < 0) x0 += dx; else if (held[0] > 0) x1 += dx;
      if (held[1] < 0) y0 += dy; else if (held[1] > 0) y1 += dy;
      this.drag.box = this.ordered([x0, y0, x1, y1]);
      this.selected = this.drag.index;
    },
    ordered([xa, ya, xb, yb]) {
      const within = (value, size) => Math.min(Math.max(value, 0), size), { width, height } = this.shown;
      return [within(Math.min(xa, xb), width), within(Math.min(ya, yb), height),
        within(Math.max(xa, xb), width), within(Math.max(ya, yb), height)];
    },
    follow() { // another tab changed the boxes under the hand: it holds the same one, or a new one behind all
      const { isNew, before } = this.drag;
      this.drag.index = isNew ? this.boxes.length : this.boxes.findIndex(box => String(box) === String(before));
      if (this.drag.index < 0) this.drag = null;
      else if (!isNew || this.drag.box) this.selected = this.drag.index;
    },
    finish() {
      const { box, before, index } = this.drag ?? {};
      this.drag = null;
      if (!box || box === before) return;
      const whole = box.map(Math.round);
      if (Math.min(whole[2] - whole[0], whole[3] - whole[1]) >= 2) this.save(index, whole);
      else if (index === this.boxes.length) this.selected = null;
    },
    save(index, after = null) { // one box alone: another tab may have changed others just now
      const before = this.boxes[index] ?? null;
      this.boxes = this.boxes.toSpliced(index, 1, ...(after ? [after] : []));
      this.$emit("box", { case: this.shown.case, before, after, edit: ++this.edit });
    },
    remove() {
      if (!this.boxes.length) return;
      const index = this.selected ?? this.boxes.length - 1;
      this.selected = null;
      this.save(index);
    },

    key(event) {
      let key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      if ((event.ctrlKey || event.metaKey) && key === "z") key = "undo";
      else if (event.ctrlKey || event.metaKey || event.altKey) return;
      const here = { "+": () => this.zoom(1.4), "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4),
        "0": this.reset, v: () => (this.gain = Math.min(this.gain * 1.25, 8)), c: () => (this.gain = Math.max(this.gain / 1.25, 0.4)),
        Delete: this.remove, Backspace: this.remove, Escape: () => ((this.drag = null), (this.selected = null)) }[key];
      if (!here && !this.keys.includes(key)) return;
      event.preventDefault();
      if (event.repeat && !key.startsWith("Arrow") && !"+=-cv".includes(key)) return; // a key held down answers once
      if (this.drag && key !== "Escape") this.finish(); // the hand was faster than the mouse button
      if (here) here();
      else this.$emit("key", { case: this.shown.case, key });
    },
    wheel(event) { this.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, this.at(event)); },
    zoom(by, center = this.pointer) {
      const [x, y, w, h] = this.view, { width, height } = this.shown;
      const wider = Math.min(Math.max(w / by, width / 40), width), share = wider / w;
      const [cx, cy] = center ?? [x + w / 2, y + h / 2];
      const place = (from, at, part, size) => Math.min(Math.max(at - (at - from) * share, 0), size - part);
      this.view = [place(x, cx, wider, width), place(y, cy, h * share, height), wider, h * share];
    },
    reset() {
      this.gain = 1;
      this.view = [0, 0, this.shown.width, this.shown.height];
    },
  },
};
