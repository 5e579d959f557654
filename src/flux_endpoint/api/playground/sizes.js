// Sizes by aspect ratio, from the limits that the catalogue states.

const RATIOS = [
  [1, 1],
  [4, 3],
  [3, 2],
  [16, 9],
  [3, 4],
  [2, 3],
  [9, 16],
];

// The size of a ratio, width over height, as near as allowed to the number of pixels of the default size.
function sizeLike({ width, height }, ratio) {
  const stretch = Math.sqrt(ratio);
  return { width: fitted(width.default * stretch, width), height: fitted(height.default / stretch, height) };
}

// The size of a picture, or, where that is not allowed, one of its ratio.
export function sizeOf({ width, height }, picture) {
  const isAllowed = [[picture.width, width], [picture.height, height]].every(([pixels, { minimum, maximum }]) => pixels >= minimum && pixels <= maximum);
  if (!isAllowed) return sizeLike({ width, height }, picture.width / picture.height);
  return { width: fitted(picture.width, width), height: fitted(picture.height, height) };
}

// [{label, width, height}]: each as near as allowed to its ratio and to the number of pixels of the default size.
export function presets({ width, height }) {
  return RATIOS.map(([across, down]) => ({ label: `${across}:${down}`, ...sizeLike({ width, height }, across / down) }));
}

function fitted(pixels, { minimum, maximum, multipleOf = 1 }) {
  const rounded = Math.round(pixels / multipleOf) * multipleOf;
  return Math.min(maximum, Math.max(minimum, rounded));
}
