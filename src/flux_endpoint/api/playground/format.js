// Numbers as people read them.

// All decimals that are charged, at least two.
export function usd(amount) {
  const [whole, decimals] = amount.toFixed(8).split(".");
  return `$${whole}.${decimals.replace(/0+$/, "").padEnd(2, "0")}`;
}

export function seconds(ms) {
  const s = ms / 1_000;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
}

export function timeLeft(ms) {
  if (ms < 1_000) return "less than a second left";
  return `${ms < 90_000 ? `${Math.round(ms / 1_000)} s` : `${Math.ceil(ms / 60_000)} min`} left`;
}
