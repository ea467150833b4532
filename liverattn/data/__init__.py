"""Cases, from any source to prepared arrays: manifest, preprocessing, cache, folds, targets, augmentation."""
