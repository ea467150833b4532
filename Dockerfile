# docker build -t liverattn .
# docker run --rm -v "$PWD/outputs:/liverattn/outputs" liverattn make quickstart
# With GPUs: --gpus all; your images: -v /path/to/images:/data:ro and data.root=/data; loader workers need --ipc=host.
FROM python:3.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /liverattn
COPY . .
RUN PIP_NO_CACHE_DIR=1 make setup
ENV PATH="/liverattn/.venv/bin:$PATH"
CMD ["make", "help"]
