// Bars over time, drawn as SVG with DOM calls only.

const SPACE = "http://www.w3.org/2000/svg";
const HEIGHT = 190;
const LEFT = 52;
const BOTTOM = 24;
const TOP = 8;

function node(tag, attributes, ...children) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// The smallest of 1, 2, 5, 10, 20 … times `unit` that is not below a value.
function roundUp(value, unit) {
  let power = unit;
  while (power * 10 < value) power *= 10;
  return [1, 2, 5, 10].map((factor) => factor * power).find((limit) => limit >= value * (1 - 1e-9));
}

// `bars`: [{label, title, parts: [{kind, value}]}], oldest first. `show` writes a value at the axis; `unit` is the
// least that the axis can end at. `summary` is what screen readers say instead of the picture; `width` is in
// pixels.
export function bars({ bars, show, unit, summary, width }) {
  const top = roundUp(Math.max(unit, ...bars.map(total)), unit);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  const step = (width - LEFT) / bars.length;
  const thick = Math.min(36, Math.max(2, step * 0.72));
  const svg = node("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": summary });
  for (const value of [0, top / 2, top]) {
    svg.append(node("line", { x1: LEFT, x2: width, y1: y(value), y2: y(value) }));
    svg.append(node("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, show(value)));
  }
  const every = Math.ceil(bars.length / Math.max(2, Math.floor(width / 130)));
  bars.forEach((bar, index) => {
    const x = LEFT + step * (index + 0.5);
    let below = 0;
    const group = node("g", {}, node("title", {}, bar.title));
    for (const { kind, value } of bar.parts) {
      if (value === 0) continue;
      const height = y(below) - y(below + value);
      group.append(node("rect", { class: kind, x: x - thick / 2, y: y(below + value), width: thick, height, rx: 1.5 }));
      below += value;
    }
    // So that also an empty place says what it is.
    group.append(node("rect", { x: x - step / 2, y: TOP, width: step, height: HEIGHT - TOP - BOTTOM, "fill-opacity": 0 }));
    svg.append(group);
    if (index % every === 0) svg.append(node("text", { x, y: HEIGHT - 4, "text-anchor": "middle" }, bar.label));
  });
  return svg;
}

export const total = (bar) => bar.parts.reduce((sum, part) => sum + part.value, 0);
