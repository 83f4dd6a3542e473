// Numbers as text, by the rules of csd_lab/compare/figures.py.

const MINUS = "−", UNDEFINED = "–";

const decimals = (value, digits) => {
  const exponent = value ? Number(Math.abs(value).toExponential(digits - 1).split("e")[1]) : 0;
  return Math.min(8, Math.max(0, digits - 1 - exponent));
};

const fixed = (value, places) => {
  const text = value.toFixed(places);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", MINUS);
};

const signed = (value, places) => {
  const text = fixed(value, places);
  return value > 0 && /[1-9]/.test(text) ? `+${text}` : text;
};

const meanText = ({ mean, half }) => {
  if (Number.isNaN(mean)) return UNDEFINED;
  if (Number.isNaN(half)) return fixed(mean, decimals(mean, 4));
  const places = half ? decimals(half, 2) : decimals(mean, 4);
  return `${fixed(mean, places)} ± ${fixed(half, places)}`;
};

const differenceText = ({ mean, low, high, half }) => {
  if (Number.isNaN(mean)) return UNDEFINED;
  if (!half) return signed(mean, decimals(mean, 4));
  const places = decimals(half, 2);
  return `${signed(mean, places)} [${signed(low, places)}, ${signed(high, places)}]`;
};

/** A number for an axis or a tooltip. */
const shortText = (value) => (
  Number.isFinite(value) ? String(Number(value.toPrecision(4))).replace("-", MINUS) : UNDEFINED
);

const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
