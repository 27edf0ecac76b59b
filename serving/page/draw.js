// Drawings of results: pure functions from numbers to elements.

const SVG = "http://www.w3.org/2000/svg";
const HUES = [210, 25, 140, 280, 50, 330, 180, 95];

/** An element of a name, with attributes and children (elements or texts). */
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function shape(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function figure(caption, content) {
  return element("figure", {}, element("figcaption", {}, caption), content);
}

/** A colour of a share between 0 (pale) and 1 (strong); `hue` in degrees. */
export function colour(share, hue = 210) {
  const bounded = Math.min(1, Math.max(0, share));
  return `hsl(${hue} 75% ${95 - 45 * bounded}%)`;
}

/** The colour of the i-th of several kinds. */
export function kindColour(i) {
  return colour(0.5, HUES[i % HUES.length]);
}

function short(text, length) {
  return text.length > length ? text.slice(0, length - 1) + "…" : text;
}

/** A matrix as coloured cells. */
export function heatMap(matrix, names) {
  const cell = 46, left = 190, count = names.length;
  const low = Math.min(...matrix.flat(), 0), high = Math.max(...matrix.flat(), 0.01);
  const svg = shape("svg", { width: left + cell * count + 8, height: cell * (count + 1), role: "img" });
  names.forEach((name, i) => {
    const y = cell * (i + 1) - cell / 2;
    svg.append(
      shape("text", { x: left - 30, y: y + 4, "text-anchor": "end" }, short(name, 24)),
      shape("text", { x: left - 8, y: y + 4, "text-anchor": "end", class: "faint" }, `${i + 1}`),
      shape("text", { x: left + cell * (i + 0.5), y: cell * count + 16, "text-anchor": "middle", class: "faint" }, `${i + 1}`),
    );
    matrix[i].forEach((value, j) => {
      const share = (value - low) / (high - low);
      svg.append(
        shape("rect", { x: left + cell * j, y: cell * i, width: cell - 2, height: cell - 2, rx: 4, fill: colour(share) },
          shape("title", {}, `${name}\n${names[j]}\n${value.toFixed(4)}`)),
        shape("text", { x: left + cell * (j + 0.5) - 1, y: y + 3, "text-anchor": "middle", class: "inside" }, value.toFixed(2)),
      );
    });
  });
  return svg;
}

/** Points of a plane, each with its name. */
export function plot(points, names) {
  const size = 440, margin = 70;
  const svg = shape("svg", { width: size, height: size, viewBox: `0 0 ${size} ${size}`, role: "img" });
  const reach = Math.max(...points.flat().map(Math.abs), 1e-9);
  points.forEach(([x, y], i) => {
    const at = (v) => size / 2 + (v / reach) * (size / 2 - margin);
    svg.append(
      shape("circle", { cx: at(x), cy: at(y), r: 6, fill: kindColour(i) }, shape("title", {}, names[i])),
      shape("text", { x: at(x), y: at(y) - 10, "text-anchor": "middle" }, short(names[i], 18)),
    );
  });
  return svg;
}

/** Rows `{name, value}` as bars from zero, negative values paler. */
export function bars(rows) {
  const height = 26, left = 260, width = 300;
  const reach = Math.max(...rows.map((row) => Math.abs(row.value)), 1e-9);
  const svg = shape("svg", { width: left + width + 70, height: height * rows.length + 4, role: "img" });
  rows.forEach(({ name, value }, i) => {
    const length = (Math.abs(value) / reach) * width, y = height * i;
    svg.append(
      shape("text", { x: left - 8, y: y + 17, "text-anchor": "end" }, short(name, 38), shape("title", {}, name)),
      shape("rect", { x: left, y: y + 3, width: Math.max(1, length), height: height - 8, rx: 3, fill: colour(value < 0 ? 0.2 : 0.7) }),
      shape("text", { x: left + length + 6, y: y + 17, class: "faint" }, value.toPrecision(4)),
    );
  });
  return svg;
}

/** A text with its spans `{start, end, label, kind}` marked. */
export function spans(text, found) {
  const characters = [...text]; // offsets count characters, not UTF-16 units
  const whole = element("div", { class: "tokens" });
  let done = 0;
  for (const { start, end, label, kind } of found) {
    whole.append(characters.slice(done, start).join(""));
    whole.append(element("mark", { style: `background: ${kindColour(kind)}` },
      characters.slice(start, end).join(""), element("small", {}, label)));
    done = end;
  }
  whole.append(characters.slice(done).join(""));
  return whole;
}

/** Tokens of a document, to be shaded. */
export function marks(tokens) {
  const cells = tokens.map((token) => element("mark", {}, token));
  return { cells, whole: element("div", { class: "tokens" }, ...cells) };
}

/** A picture with the places of its vectors, `[rows, columns]`, to be shaded. */
export function places(url, [rows, columns]) {
  const cells = Array.from({ length: rows * columns }, () => element("mark"));
  const over = element("div", { style: `grid-template: repeat(${rows}, 1fr) / repeat(${columns}, 1fr)` }, ...cells);
  return { cells, whole: element("div", { class: "picture" }, element("img", { src: url, alt: "" }), over) };
}

/** Tokens of a query to press, and cells of a document shaded by the pressed one (or by the best). */
export function matches(query, { cells, whole }, similarities) {
  const pressed = element("div", { class: "tokens" });
  function shade(chosen) {
    const values = cells.map((_, j) => chosen === null
      ? Math.max(...similarities.map((row) => row[j])) : similarities[chosen][j]);
    const low = Math.min(...values), range = Math.max(...values) - low || 1;
    cells.forEach((cell, j) => {
      cell.style.background = colour((values[j] - low) / range, 140);
      cell.title = values[j].toFixed(4);
    });
    [...pressed.children].forEach((one, i) => one.setAttribute("aria-pressed", i === chosen));
  }
  query.forEach((token, i) => pressed.append(element("button", {
    type: "button", "aria-pressed": false,
    onclick: (event) => shade(event.target.getAttribute("aria-pressed") === "true" ? null : i),
  }, token)));
  shade(null);
  return element("div", {}, pressed, whole);
}
