// What a job costs, by the rule the server's catalogue states.

import { usd } from "./format.js";

const PIXELS_PER_MEGAPIXEL = 1_000_000;
const UNITS_PER_USD = 100_000_000; // charged to the hundred-millionth of a dollar

// `draft`: its steps and those of the whole picture, whose price it costs a share of.
export function cost(price, { width, height }, draft = null) {
  const perMegapixel = price.usdPerMegapixel;
  const whole = perMegapixel === undefined ? (price.usdPerPicture ?? price.usdPerJob) : rounded((width * height * perMegapixel) / PIXELS_PER_MEGAPIXEL);
  return draft ? rounded((whole * draft.steps) / draft.of) : whole;
}

const rounded = (amount) => Math.round(amount * UNITS_PER_USD) / UNITS_PER_USD;

export function rule(price) {
  if (price.usdPerPicture !== undefined) return `${usd(price.usdPerPicture)} per picture`;
  return price.usdPerJob !== undefined ? `${usd(price.usdPerJob)} per job` : `${usd(price.usdPerMegapixel)} per megapixel`;
}

export function calculation(price, { width, height }, draft = null, count = 1) {
  const how = price.usdPerMegapixel === undefined ? rule(price) : `${((width * height) / PIXELS_PER_MEGAPIXEL).toFixed(2)} MP × ${usd(price.usdPerMegapixel)}`;
  return `${how}${count > 1 ? ` × ${count} pictures` : ""}${draft ? ` × ${draft.steps} of ${draft.of} steps` : ""} · nobody is billed`;
}
