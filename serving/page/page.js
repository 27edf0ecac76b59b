// The page: which tabs a model has, what each asks the server, and how its answer is drawn.

import { bars, element, figure, heatMap, matches, plot, spans } from "./draw.js";
import { cosines, plane, products } from "./vectors.js";

const at = (id) => document.getElementById(id);
const base = new URL("..", import.meta.url).href;
let models = [], model, asked = [];

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

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
    fields: (m) => [
      area("texts", "Texts, one a line", "A man is eating food.\nSomeone has a meal.\nThe cat sleeps all day.\nA kitten naps."),
      ...(m.images ? [pictures()] : []),
    ],
    async show({ texts, images }) {
      const files = [...(images ?? [])];
      const names = [...lines(texts), ...files.map((file) => file.name)];
      const urls = await Promise.all(files.map(read));
      const input = files.length
        ? [...lines(texts).map((text) => ({ text })), ...urls.map((image) => ({ image }))]
        : lines(texts);
      const answer = await ask("v1/embeddings", { input });
      const similar = cosines(answer.data.map((one) => one.embedding));
      return [figure("Cosines", heatMap(similar, names)), figure("Neighbours", plot(plane(similar), names))];
    },
  },
  {
    name: "Classes",
    able: (m) => m.tasks.includes("classify"),
    fields: () => [area("texts", "Texts, one a line", "I love this.\nThis is terrible.")],
    async show({ texts }) {
      const answer = await ask("classify", { input: lines(texts) });
      return answer.data.map((one, i) => figure(lines(texts)[i], bars(
        one.probs.map((value, j) => ({ name: model.labels[j] ?? `class ${j}`, value })))));
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
    able: (m) => m.scores,
    fields: () => [
      line("query", "Query", "How do cats purr?"),
      area("documents", "Documents, one a line", "Dogs bark at strangers.\nThe larynx vibrates as a cat breathes.\nBerlin is the capital of Germany."),
    ],
    async show({ query, documents }) {
      const answer = await ask("rerank", { query, documents: lines(documents) });
      return [figure("Best first", bars(answer.results.map((one) => ({
        name: `${one.index + 1}. ${lines(documents)[one.index]}`, value: one.relevance_score,
      }))))];
    },
  },
  {
    name: "Matches",
    able: (m) => m.tasks.includes("token_embed") && m.scores === "token_embed",
    fields: () => [
      line("query", "Query", "How do cats purr?"),
      area("text", "Document", "The larynx of a cat vibrates as it breathes, which makes the sound."),
    ],
    async show({ query, text }) {
      const bodies = [[query, "query"], [text, "document"]].map(([input, input_type]) => (
        { input, task: "token_embed", ...(model.sides ? { input_type } : {}) }));
      const vectors = (await Promise.all(bodies.map((body) => ask("pooling", body)))).map((one) => one.data[0].data);
      const tokens = await Promise.all(bodies.map((body) => ask("page/tokens", body)));
      const similar = products(vectors[0], vectors[1]);
      const score = similar.reduce((sum, row) => sum + Math.max(...row), 0);
      return [figure(`MaxSim ${score.toPrecision(5)}: press a token of the query`,
        matches(tokens[0].tokens, tokens[1].tokens, similar))];
    },
  },
];

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

function pictures() {
  return element("label", {}, "Pictures", element("input", { name: "images", type: "file", accept: "image/*", multiple: "" }));
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
