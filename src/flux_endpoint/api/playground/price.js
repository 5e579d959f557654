// What a job costs, by the rule the server's catalogue states.

import { usd } from "./format.js";

const PIXELS_PER_MEGAPIXEL = 1_000_000;
const UNITS_PER_USD = 100_000_000; // charged to the hundred-millionth of a dollar

export function cost(price, { width, height }) {
  if (price.usdPerMegapixel === undefined) return price.usdPerPicture ?? price.usdPerJob;
  const exact = (width * height * price.usdPerMegapixel) / PIXELS_PER_MEGAPIXEL;
  return Math.round(exact * UNITS_PER_USD) / UNITS_PER_USD;
}

export function rule(price) {
  if (price.usdPerPicture !== undefined) return `${usd(price.usdPerPicture)} per picture`;
  return price.usdPerJob !== undefined ? `${usd(price.usdPerJob)} per job` : `${usd(price.usdPerMegapixel)} per megapixel`;
}

export function calculation(price, { width, height }) {
  const how = price.usdPerMegapixel === undefined ? rule(price) : `${((width * height) / PIXELS_PER_MEGAPIXEL).toFixed(2)} MP × ${usd(price.usdPerMegapixel)}`;
  return `${how} · nobody is billed`;
}
