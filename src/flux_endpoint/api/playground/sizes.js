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

// [{label, width, height}]: each as near as allowed to its ratio and to the number of pixels of the default size.
export function presets({ width, height }) {
  return RATIOS.map(([across, down]) => {
    const stretch = Math.sqrt(across / down);
    return {
      label: `${across}:${down}`,
      width: fitted(width.default * stretch, width),
      height: fitted(height.default / stretch, height),
    };
  });
}

function fitted(pixels, { minimum, maximum, multipleOf = 1 }) {
  const rounded = Math.round(pixels / multipleOf) * multipleOf;
  return Math.min(maximum, Math.max(minimum, rounded));
}
