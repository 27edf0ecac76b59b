// The page: which tabs a model has, what each asks the server, and how its answer is drawn.

import { bars, element, figure, heatMap, marks, matches, places, plot, spans } from "./draw.js";
import { cosines, plane, products } from "./vectors.js";

const at = (id) => document.getElementById(id);
const base = new URL("..", import.meta.url).href;
let models = [], model, asked = [];

const split = (text, by) => text.split(by).map((part) => part.trim()).filter(Boolean);
const lines = (text) => split(text, "\n");
const words = (text) => split(text, ",");

/** The answer to a JSON body; throws the server's own message. */
async function ask(path, body) {
  const request = { model: model.name, ...body };
  if (!path.startsWith("page/")) asked.push(curl(path, request));
  const headers = { "content-type": "application/json" };
  if (at("key").value) headers.authorization = `Bearer ${at("key").value}`;
  const response = await fetch(base + path, { method: "POST", headers, body: JSON.stringify(request) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error?.message ?? answer.error ?? response.statusText);
  return answer;
}

function curl(path, body) {
  const key = at("key").value ? " \\\n  -H 'authorization: Bearer '$KEY" : "";
  const text = JSON.stringify(body, (_, value) =>
    typeof value === "string" && value.startsWith("data:") ? value.slice(0, 40) + "..." : value, 1);
  return `curl ${base}${path} -H 'content-type: application/json'${key} \\\n  -d '${text.replaceAll("'", "'\\''")}'`;
}

const read = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(file);
});

// Each tab: its name, whether a model has it, its fields, and what it shows of their values.
const TABS = [
  {
    name: "Similarity",
    able: (m) => m.tasks.includes("embed"),
    fields: (m) => inputs(m, "A man is eating food.\nSomeone has a meal.\nThe cat sleeps all day.\nA kitten naps."),
    async show(given) {
      const { names, input } = await inputOf(given);
      const answer = await ask("v1/embeddings", { input });
      const similar = cosines(answer.data.map((one) => one.embedding));
      return [figure("Cosines", heatMap(similar, names)), figure("Neighbours", plot(plane(similar), names))];
    },
  },
  {
    name: "Classes",
    able: (m) => m.tasks.includes("classify") && Object.keys(m.labels).length > 0,
    fields: (m) => inputs(m, "I love this.\nThis is terrible."),
    async show(given) {
      const { names, input } = await inputOf(given);
      const answer = await ask("classify", { input });
      return answer.data.map((one, i) => figure(names[i], bars(
        one.probs.map((value, j) => ({ name: model.labels[j] ?? `class ${j}`, value })))));
    },
  },
  {
    name: "Labels",
    able: (m) => m.takes_labels,
    fields: () => [
      area("texts", "Texts, one a line", "The new phone has a brighter screen.\nThe match ended in a draw."),
      line("labels", "Labels, with commas between", "technology, sports, politics"),
    ],
    async show({ texts, labels }) {
      const answer = await ask("classify", { input: lines(texts), labels: words(labels) });
      return answer.data.map((one, i) => figure(lines(texts)[i], bars(
        one.probs.map((value, j) => ({ name: words(labels)[j], value })))));
    },
  },
  {
    name: "Entities",
    able: (m) => m.spans,
    fields: () => [
      area("text", "A text", "Angela Merkel lives in Berlin and worked for the European Union."),
      line("labels", "Labels, with commas between", "person, city, organization"),
      line("threshold", "Least probability", "0.5"),
    ],
    async show({ text, labels, threshold }) {
      const kinds = words(labels);
      const answer = await ask("classify", { input: text, labels: kinds, threshold: Number(threshold) });
      const found = answer.data[0].entities.map((one) => ({ ...one, kind: kinds.indexOf(one.label) }));
      return [figure("Entities", spans(text, found.sort((a, b) => a.start - b.start)))];
    },
  },
  {
    name: "Decisions",
    able: (m) => m.tasks.includes("decide"),
    fields: () => [
      area("state", "What it is about", "The parcel came a week late, and the box was open."),
      line("question", "Question", "What does the customer want?"),
      line("options", "Options, with commas between", "a refund, an apology, nothing"),
    ],
    async show({ state, question, options }) {
      const criteria = Object.fromEntries(words(options).map((name) => [name, null]));
      const questions = { answer: { type: "choice", instructions: question, criteria } };
      const { answers } = await ask("v1/systemone", { state, questions });
      const rows = Object.entries(answers.answer.probabilities).map(([name, value]) => ({ name, value }));
      return [figure(question, bars(rows))];
    },
  },
  {
    name: "Spans",
    able: (m) => m.tasks.includes("token_classify") && Object.keys(m.labels).length > 1,
    fields: () => [area("text", "A text", "Angela Merkel lives in Berlin and worked for the European Union.")],
    async show({ text }) {
      const body = { input: text, task: "token_classify" };
      const [classes, tokens] = await Promise.all([ask("pooling", body), ask("page/tokens", body)]);
      return [figure("Labels of the tokens", spans(text, labelled(classes.data[0].data, tokens.offsets)))];
    },
  },
  {
    name: "Rewards",
    able: (m) => m.tasks.includes("token_classify") && Object.keys(m.labels).length === 1,
    fields: () => [area("text", "A text", "2 + 2 is 4.")],
    async show({ text }) {
      const body = { input: text, task: "token_classify" };
      const [values, tokens] = await Promise.all([ask("pooling", body), ask("page/tokens", body)]);
      const rows = tokens.tokens.map((name, i) => ({ name, value: [values.data[0].data[i]].flat()[0] }));
      return [figure("The value of each token", bars(rows))];
    },
  },
  {
    name: "Words",
    able: (m) => m.tasks.includes("sparse"),
    fields: () => [area("text", "A text", "How do cats purr?")],
    async show({ text }) {
      const answer = await ask("pooling", { input: text, task: "sparse" });
      const words = answer.data[0].data.slice(0, 30);
      return [figure("The heaviest words", bars(words.map((w) => ({ name: w.token, value: w.weight }))))];
    },
  },
  {
    name: "Rerank",
    able: (m) => m.scores && m.texts,
    fields: (m) => [
      line("query", "Query", "How do cats purr?"),
      ...inputs(m, "Dogs bark at strangers.\nThe larynx vibrates as a cat breathes.\nBerlin is the capital of Germany.", "Documents"),
    ],
    async show({ query, ...given }) {
      const { names, input } = await inputOf(given);
      const answer = await ask("rerank", { query, documents: input });
      return [figure("Best first", bars(answer.results.map((one) => ({
        name: `${one.index + 1}. ${names[one.index]}`, value: one.relevance_score,
      }))))];
    },
  },
  {
    name: "Matches",
    able: (m) => m.tasks.includes("token_embed") && m.scores === "token_embed",
    fields: (m) => [
      line("query", "Query", "How do cats purr?"),
      area("text", "Document", "The larynx of a cat vibrates as it breathes, which makes the sound."),
      ...(m.images ? [files("Or a picture", "images")] : []),
    ],
    async show({ query, text, images = [] }) {
      const url = images.length ? await read(images[0]) : null;
      const bodies = [[query, "query"], [url ? [{ image: url }] : text, "document"]].map(([input, input_type]) => (
        { input, task: "token_embed", ...(model.sides ? { input_type } : {}) }));
      const vectors = (await Promise.all(bodies.map((body) => ask("pooling", body)))).map((one) => one.data[0].data);
      const tokens = await Promise.all(bodies.map((body) => ask("page/tokens", body)));
      const similar = products(vectors[0], vectors[1]);
      const score = similar.reduce((sum, row) => sum + Math.max(...row), 0);
      const document = shadeable(tokens[1], url);
      return [figure(`MaxSim ${score.toPrecision(5)}: press a token of the query`,
        matches(tokens[0].tokens, document, similar.map((row) => row.slice(document.first))))];
    },
  },
];

/** What is shaded of a document: the places of its picture where they are known, else its tokens. */
function shadeable({ tokens, grid }, url) {
  const first = tokens.indexOf(null), count = tokens.lastIndexOf(null) - first + 1;
  return url && grid && grid[0] * grid[1] === count
    ? { first, ...places(url, grid) }
    : { first: 0, ...marks(tokens.map((token) => token ?? "·")) };
}

/** Neighbouring tokens of one label as spans; O and tokens without characters are left out. */
function labelled(classes, offsets) {
  const found = [], names = Object.values(model.labels);
  const kinds = [...new Set(names.map((name) => name.replace(/^[BI]-/, "")))];
  classes.forEach((row, i) => {
    const name = names[row.indexOf(Math.max(...row))], label = name.replace(/^[BI]-/, "");
    const [start, end] = offsets[i], last = found.at(-1);
    if (label === "O" || start === end) return;
    if (last?.label === label && last.token === i - 1 && !name.startsWith("B-")) {
      Object.assign(last, { end, token: i });
    } else {
      found.push({ start, end, label, kind: kinds.indexOf(label), token: i });
    }
  });
  return found;
}

function area(name, label, value) {
  const field = element("textarea", { name }, value);
  return element("label", {}, label, field);
}

function line(name, label, value) {
  return element("label", {}, label, element("input", { name, value }));
}

function files(label, name, more = {}) {
  const field = element("input", { name, type: "file", accept: "image/*", ...more });
  return element("label", {}, label, field);
}

/** The fields of texts and pictures, as far as a model reads them. */
function inputs(m, value, name = "Texts") {
  return [
    ...(m.texts ? [area("texts", `${name}, one a line`, value)] : []),
    ...(m.images ? [files("Pictures", "images", { multiple: "" })] : []),
  ];
}

/** What these fields hold: the name of each text and picture, and the `input` of a request. */
async function inputOf({ texts = "", images = [] }) {
  const chosen = [...images];
  const urls = await Promise.all(chosen.map(read));
  const names = [...lines(texts), ...chosen.map((file) => file.name)];
  const parts = [...lines(texts).map((text) => ({ text })), ...urls.map((image) => ({ image }))];
  return { names, input: chosen.length ? parts : lines(texts) };
}

function values() {
  return Object.fromEntries([...at("form").elements].filter((one) => one.name).map((one) => [one.name, one.files ?? one.value]));
}

function open(tab) {
  for (const button of at("tabs").children) button.setAttribute("aria-selected", button.textContent === tab.name);
  const button = element("button", { type: "submit" }, "Run");
  at("form").replaceChildren(...tab.fields(model), button);
  at("result").replaceChildren();
  at("curl").textContent = "";
  at("form").onsubmit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    asked = [];
    try {
      at("result").replaceChildren(...await tab.show(values()));
    } catch (error) {
      at("result").replaceChildren(element("p", { class: "error", role: "alert" }, error.message));
    }
    at("curl").textContent = asked.join("\n\n");
    button.disabled = false;
  };
}

function choose(name) {
  model = models.find((one) => one.name === name);
  const tabs = TABS.filter((tab) => tab.able(model));
  at("tabs").replaceChildren(...tabs.map((tab) => element("button", { role: "tab", onclick: () => open(tab) }, tab.name)));
  if (tabs.length) open(tabs[0]);
}

const response = await fetch(base + "page/models");
if (response.ok) {
  models = await response.json();
  at("model").replaceChildren(...models.map((one) => element("option", {}, one.name)));
  at("model").onchange = () => choose(at("model").value);
  choose(models[0].name);
} else {
  at("result").textContent = "The models are still being loaded: reload this page in a moment.";
}
