// Reads openapi.json, lists what is in it, and sends requests. Texts go into the page as text, never as HTML.
"use strict";

const DEMO = "hugging-llama/demo";
const EXAMPLES = {
  "/api/chat": { model: DEMO, messages: [{ role: "user", content: "Why cache?" }], options: { num_predict: 60 } },
  "/api/generate": { model: DEMO, prompt: "Why cache?", options: { num_predict: 60 } },
  "/api/show": { model: DEMO },
  "/api/tokenize": { model: DEMO, content: "Why cache?" },
  "/api/detokenize": { model: DEMO, tokens: [101, 102] },
  "/v1/chat/completions": { model: DEMO, messages: [{ role: "user", content: "Why cache?" }], max_tokens: 60, stream: true },
  "/v1/completions": { model: DEMO, prompt: "Once upon a time", max_tokens: 40, stream: true },
  "/v1/responses": { model: DEMO, input: "Why cache?", max_output_tokens: 60, stream: true },
  "/v1/messages": { model: DEMO, messages: [{ role: "user", content: "Why cache?" }], max_tokens: 60, stream: true },
  "/v1/messages/count_tokens": { model: DEMO, messages: [{ role: "user", content: "Why cache?" }] },
};

let document_ = null;

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

// `code` in a description becomes code
function prose(text) {
  return (text || "").split(/`([^`]*)`/).map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

function resolved(schema) {
  while (schema && schema.$ref) schema = document_.components.schemas[schema.$ref.split("/").pop()];
  return schema || {};
}

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).filter(Boolean).join(" or ");
  if (schema.enum) return schema.enum.filter((value) => value !== null).map((value) => JSON.stringify(value)).join(", ");
  const types = [].concat(schema.type || "any value").filter((name) => name !== "null");
  return types.map((name) => (name === "array" && schema.items ? `list of ${typeOf(schema.items)}` : name)).join(" or ");
}

function references(schema) {
  const found = new Set();
  const visit = (part) => {
    if (!part || typeof part !== "object") return;
    if (typeof part.$ref === "string") found.add(part.$ref);
    Object.values(part).forEach(visit);
  };
  visit(schema.properties);
  return [...found];
}

function fieldTable(schema) {
  const required = new Set(schema.required || []);
  const rows = Object.entries(schema.properties || {}).map(([name, field]) =>
    make("tr", {},
      make("td", {}, make("code", {}, name), required.has(name) ? make("span", { class: "must" }, " needed") : null),
      make("td", {}, make("div", { class: "type" }, typeOf(field)), ...prose(field.description))));
  return rows.length ? make("table", {}, ...rows) : make("p", {}, "An object.");
}

// an object and, below it, the objects that it is made of
function schemaNodes(schema, seen = new Set()) {
  if (schema.anyOf) return schema.anyOf.flatMap((part) => schemaNodes(part, seen));
  const name = schema.$ref;
  if (name && seen.has(name)) return [];
  if (name) seen.add(name);
  const whole = resolved(schema);
  const nodes = whole.description ? [make("p", {}, ...prose(whole.description))] : [];
  nodes.push(fieldTable(whole));
  for (const reference of references(whole)) {
    if (seen.has(reference)) continue;
    nodes.push(make("details", {}, make("summary", {}, make("code", {}, reference.split("/").pop())),
      ...schemaNodes({ $ref: reference }, seen)));
  }
  return nodes;
}

function contentSchema(content) {
  const item = content.itemSchema;
  const data = item && item.properties && item.properties.data;
  const json = data && (data.anyOf || [data]).find((part) => part.contentSchema);
  return content.schema || (json && json.contentSchema) || item || null;
}

function headerNodes(response) {
  const headers = Object.entries(response.headers || {}).map(([name, header]) => {
    const { schema, description } = document_.components.headers[header.$ref.split("/").pop()];
    return [name, { ...schema, description }];
  });
  return headers.length ? [make("p", {}, "Headers that it may have:"), fieldTable({ properties: Object.fromEntries(headers) })] : [];
}

function responseNodes(operation) {
  const nodes = [];
  for (const [status, response] of Object.entries(operation.responses)) {
    const contents = Object.entries(response.content || {});
    if (!contents.length) nodes.push(make("h3", {}, `Answer ${status}`), make("p", {}, response.description), ...headerNodes(response));
    for (const [type, content] of contents) {
      const many = content.itemSchema ? (type.includes("ndjson") ? ", one object a line" : ", events") : "";
      const schema = contentSchema(content);
      nodes.push(make("details", {}, make("summary", {}, `Answer ${status}: `, make("code", {}, type), many),
        make("p", {}, response.description), ...(schema ? schemaNodes(schema) : []), ...headerNodes(response)));
    }
  }
  return nodes;
}

async function send(method, path, body, output, button, stop) {
  const abort = new AbortController();
  stop.onclick = () => abort.abort();
  button.disabled = true;
  stop.hidden = false;
  output.hidden = false;
  output.textContent = "";
  try {
    const options = { method: method.toUpperCase(), signal: abort.signal };
    if (body !== null) options.body = body;
    const response = await fetch(base() + path, options);
    output.textContent = `${response.status} ${response.statusText}\n`;
    const reader = response.body && response.body.getReader();
    const decoder = new TextDecoder();
    while (reader) {
      const { done, value } = await reader.read();
      if (done) break;
      output.textContent += decoder.decode(value, { stream: true });
      output.scrollTop = output.scrollHeight;
    }
  } catch (error) {
    output.textContent += abort.signal.aborted ? "\nstopped" : `\n${error.message}`;
  }
  button.disabled = false;
  stop.hidden = true;
}

function base() {
  return location.pathname.replace(/\/docs\/?$/, "").replace(mounted(), "");
}

// the part of the paths in the document that stands before /docs, where the API is mounted in another application
function mounted() {
  const path = Object.keys(document_.paths).find((name) => name.endsWith("/openapi.json")) || "/openapi.json";
  return path.slice(0, -"/openapi.json".length);
}

function tryNodes(path, method, operation) {
  const content = operation.requestBody && operation.requestBody.content;
  if (content && !content["application/json"]) return [];
  const local = path.slice(mounted().length);
  const schema = content ? resolved(content["application/json"].schema) : null;
  const example = EXAMPLES[local] || (schema ? Object.fromEntries((schema.required || []).map((name) => [name, ""])) : null);
  const where = make("input", { value: path, "aria-label": "Path", size: "50" });
  const body = content ? make("textarea", { spellcheck: "false", "aria-label": "Body" }) : null;
  if (body) body.value = JSON.stringify(example, null, 2);
  const output = make("pre", { hidden: "" });
  const stop = make("button", { type: "button", hidden: "" }, "Stop");
  const button = make("button", { type: "button" }, "Send");
  button.addEventListener("click", () => send(method, where.value, body ? body.value : null, output, button, stop));
  return [make("h3", {}, "Try it"), path.includes("{") ? where : null, body, button, " ", stop, output].filter(Boolean);
}

function operationNode(path, method, operation) {
  const id = operation.operationId;
  const content = operation.requestBody && operation.requestBody.content;
  const [type, request] = content ? Object.entries(content)[0] : [];
  const parameters = (operation.parameters || []).filter((parameter) => parameter.in === "query");
  const inner = make("div", { class: "body" });
  const node = make("article", { id },
    make("details", { ontoggle: (event) => { if (event.target.open && !inner.childNodes.length) fill(); } },
      make("summary", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), " ", make("code", {}, path),
        make("span", { class: "about" }, ...prose(operation.summary))),
      inner));
  function fill() {
    if (operation.description) inner.append(make("p", {}, ...prose(operation.description)));
    if (parameters.length) inner.append(make("h3", {}, "Parameters"), fieldTable({ properties: Object.fromEntries(parameters.map((p) => [p.name, p.schema])) }));
    if (content) inner.append(make("h3", {}, "Request ", make("code", {}, type)), ...(type === "application/json" ? schemaNodes(request.schema) : []));
    inner.append(make("h3", {}, "Answers"), ...responseNodes(operation), ...tryNodes(path, method, operation));
  }
  node.words = [path, operation.summary, ...fieldNames(request)].join(" ").toLowerCase();
  return node;
}

function fieldNames(request) {
  return request && request.schema ? Object.keys(resolved(request.schema).properties || {}) : [];
}

function show() {
  const operations = document.getElementById("operations");
  const contents = document.getElementById("contents");
  const entries = [];
  for (const tag of document_.tags) {
    const section = make("section", { class: "tag" }, make("h2", {}, tag.name), make("p", {}, tag.description));
    const links = make("div", {}, make("h2", {}, tag.name));
    for (const [path, methods] of Object.entries(document_.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (!(operation.tags || []).includes(tag.name)) continue;
        const node = operationNode(path, method, operation);
        const link = make("a", { href: `#${operation.operationId}`, onclick: () => { node.firstChild.open = true; } },
          make("span", { class: `method ${method}` }, method.toUpperCase()), path);
        entries.push({ node, link, section, links });
        section.append(node);
        links.append(link);
      }
    }
    operations.append(section);
    contents.append(links);
  }
  document.getElementById("filter").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { node, link } of entries) node.hidden = link.hidden = !words.every((word) => node.words.includes(word));
    for (const { section, links } of entries) section.hidden = links.hidden = !section.querySelector("article:not([hidden])");
  });
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target) { target.firstChild.open = true; target.scrollIntoView(); }
}

fetch("openapi.json").then((response) => response.json()).then((found) => {
  document_ = found;
  document.getElementById("intro").replaceChildren(`${found.info.description} Version ${found.info.version}. `,
    make("a", { href: "openapi.json" }, "openapi.json"));
  show();
}).catch((error) => { document.getElementById("intro").textContent = `openapi.json can't be read: ${error.message}`; });
