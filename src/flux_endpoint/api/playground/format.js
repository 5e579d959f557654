// Numbers as people read them.

// To a hundredth of a cent, at least to the cent.
export function usd(amount) {
  if (amount > 0 && amount < 0.000_05) return "under $0.0001";
  return `$${amount.toFixed(4).replace(/00$/, "")}`;
}

// All decimals that are charged, for those who add them up.
export const exactUsd = (amount) => `$${amount.toFixed(8).replace(/0{1,6}$/, "")}`;

export function seconds(ms) {
  const s = ms / 1_000;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  return whole < 90 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

export function timeLeft(ms) {
  if (ms < 1_000) return "less than a second left";
  return `${ms < 90_000 ? `${Math.round(ms / 1_000)} s` : `${Math.ceil(ms / 60_000)} min`} left`;
}

// Whether a field of an input, by its schema, holds text.
export const isText = ({ type }) => [type].flat().includes("string");
