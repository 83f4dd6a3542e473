// Elements of the page. Text is always text: nothing here ever reads markup.

const byId = (id) => document.getElementById(id);

const fill = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "data") Object.assign(node.dataset, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
};

const el = (tag, attributes = {}, ...children) => (
  fill(document.createElement(tag), attributes, children)
);

const svg = (tag, attributes = {}, ...children) => (
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children)
);

const COLOURS = 8, SHAPES = 4;

/** The look of a group: a colour, and a shape that differs where colours repeat. */
const lookOf = (place) => ({
  colour: `c${place % COLOURS}`, shape: Math.floor(place / COLOURS) % SHAPES,
});

/** A mark at (x, y): circle, square, diamond or triangle of about radius r. */
const mark = (x, y, r, { colour, shape }, attributes = {}) => {
  const all = { ...attributes, class: `mark ${colour} ${attributes.class ?? ""}` };
  if (shape === 0) return svg("circle", { ...all, cx: x, cy: y, r });
  const corners = [
    null,
    [[-0.85, -0.85], [0.85, -0.85], [0.85, 0.85], [-0.85, 0.85]],
    [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]],
    [[0, -1.15], [1.1, 0.85], [-1.1, 0.85]],
  ][shape];
  const points = corners.map(([dx, dy]) => `${x + r * dx},${y + r * dy}`).join(" ");
  return svg("polygon", { ...all, points });
};

const swatch = (place) => svg(
  "svg", { class: "swatch", viewBox: "0 0 16 16", "aria-hidden": "true" },
  mark(8, 8, 6, lookOf(place)),
);

const options = (select, values, chosen) => {
  select.replaceChildren(...values.map(([value, text]) => (
    el("option", { value, selected: value === chosen }, text)
  )));
};
