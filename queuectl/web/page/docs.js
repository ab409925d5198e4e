// The reference: every route with its input, its answers, its curl line, and a way to try it.
import { Problem, ask, askToken, by, el, lineOf, put, quote, takeToken, theme } from "/page/parts.js";

const reading = location.pathname === "/redoc";
takeToken();
by("theme").onclick = theme;
if (reading) { by("other").href = "/docs"; by("other").textContent = "To try"; }

const { form: api } = await ask("GET", "/openapi.json");
const resolve = (schema) => (schema?.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema || {});
const kind = (given) => {
  const schema = resolve(given);
  if (schema.anyOf) return kind(schema.anyOf[0]);
  if (schema.enum) {
    const known = schema.enum.filter((one) => one !== null);
    return known.length > 12 ? `${known.slice(0, 3).join(" | ")} | … (${known.length})` : known.join(" | ");
  }
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  return schema.type || "any";
};

function example(given) {
  const schema = resolve(given);
  if (schema.anyOf) return example(schema.anyOf[0]);
  if (schema.examples) return schema.examples[0];
  if (schema.type === "array") return schema.minItems ? [example(schema.items)] : [];
  if (schema.type === "object") {
    const names = schema.required || Object.keys(schema.properties || {}).slice(0, 1);
    return Object.fromEntries(names.map((name) => [name, example(schema.properties[name])]));
  }
  return { integer: schema.minimum > 0 ? schema.minimum : 1, number: 1, boolean: true }[schema.type] ?? (schema.enum ? schema.enum[0] : "text");
}

const table = (titles, lines) => lines.length > 0 && el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": titles.join(", ") }, el("table", {}, el("thead", {}, el("tr", {}, titles.map((title) => el("th", { scope: "col" }, title)))),
  el("tbody", {}, lines.map((cells) => el("tr", {}, cells.map((cell) => el("td", {}, cell)))))));

function route(path, method, operation) {
  const body = operation.requestBody?.content["application/json"].schema;
  const members = Object.entries(resolve(body)?.properties || {});
  const fields = [...operation.parameters.map((one) => [el("code", {}, one.name), one.in, kind(one.schema), `${one.description}${one.required ? " (needed)" : ""}`]),
    ...members.map(([name, schema]) => [el("code", {}, name), "body", kind(schema), `${schema.description || resolve(schema).description || ""}${resolve(body).required?.includes(name) ? " (needed)" : ""}`])];
  const sample = body && JSON.stringify(example(body));
  const curl = (target = path.replace("{id}", "job1"), text = sample) => ["curl -H @TOKENFILE", method !== "GET" && `-X ${method}`,
    text && `-H 'content-type: application/json' -d ${quote(text)}`, quote(location.origin + target)].filter(Boolean).join(" ");
  return el("details", { className: "panel route", open: reading, id: operation.operationId },
    el("summary", {}, el("b", { className: `method ${method}` }, method), el("code", {}, path), el("span", { className: "soft" }, operation.summary + (operation.deprecated ? " (older form)" : ""))),
    el("p", {}, operation["x-right"] === "open" ? "Open: no token is asked for." : `Needs the ${operation["x-right"]} token. `, operation["x-command"] && el("code", {}, operation["x-command"])),
    table(["Name", "In", "Kind", "Meaning"], fields),
    table(["Answer", "Meaning"], Object.entries(operation.responses).map(([status, answer]) => [status, answer.description])),
    lineOf(curl()),
    !reading && operation.operationId !== "events" && trial(path, method, operation, sample, curl));
}

function trial(path, method, operation, sample, curl) {
  const inputs = operation.parameters.filter((one) => one.in !== "header").map((one) => ({ ...one, input: el("input", { type: "text", autocomplete: "off" }) }));
  const body = sample && el("textarea", { rows: 3, value: sample, "aria-label": "Body" });
  const told = el("pre", { className: "command", hidden: true, tabIndex: 0, "aria-label": "Answer" });
  const target = () => {
    let made = path;
    const query = new URLSearchParams();
    for (const { name, in: where, input } of inputs) {
      if (where === "path") made = made.replace(`{${name}}`, encodeURIComponent(input.value || "job1"));
      else if (input.value) query.append(name, input.value);
    }
    return made + (String(query) ? `?${query}` : "");
  };
  const send = async () => {
    told.hidden = false;
    told.textContent = `${curl(target(), body?.value)}\n…`;
    let shown;
    try {
      const reply = await ask(method, target(), body ? JSON.parse(body.value) : undefined);
      shown = `${reply.status}\n${reply.form ? JSON.stringify(reply.form, null, 2) : reply.text}`;
    } catch (error) {
      if (error instanceof Problem && error.status === 401) askToken();
      shown = error instanceof Problem ? `${error.status}\n${JSON.stringify(error.form, null, 2)}` : String(error);
    }
    told.textContent = `${curl(target(), body?.value)}\n${shown}`.slice(0, 100000);
  };
  return el("form", { onsubmit: (event) => { event.preventDefault(); send(); } },
    el("div", { className: "fields" }, inputs.map((one) => el("label", {}, one.name, one.input))), body,
    el("div", { className: "ends" }, el("button", { className: "main" }, method === "GET" && !operation.operationId.startsWith("oldSt") ? "Try" : "Try: this acts")), told);
}

const areas = new Map();
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const area = operation.tags[0];
    if (!areas.has(area)) areas.set(area, []);
    areas.get(area).push(route(path, method.toUpperCase(), operation));
  }
}
put(by("routes"), el("p", {}, "The token is sent as ", el("code", {}, "Authorization: Bearer TOKEN"), "; 'queuectl serve' prints the file to give to curl. Errors are ", el("code", {}, "application/problem+json"), "."),
  [...areas].map(([area, made]) => el("section", { "aria-label": area }, el("h2", {}, area), made)));
if (location.hash) document.querySelector(location.hash)?.setAttribute("open", "");
