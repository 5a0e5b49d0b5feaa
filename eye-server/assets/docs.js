// The API's description as forms: what is typed in is sent to this service and nowhere else. The token stays in this tab.
"use strict";
(() => {
  const SHOWN = 200_000;
  const $ = (id) => document.getElementById(id);
  const make = (name, properties, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  const token = $("token");
  token.value = sessionStorage.getItem("eye.token") ?? "";
  token.addEventListener("input", () => sessionStorage.setItem("eye.token", token.value.trim()));

  // A body to begin with, as the schema has it.
  const example = (schema, all, depth = 0) => {
    if (schema.$ref) schema = all[schema.$ref.split("/").pop()] ?? {};
    if (schema.example !== undefined) return schema.example;
    const either = schema.oneOf ?? schema.anyOf;
    if (either) return example(either[0], all, depth);
    if (schema.enum) return schema.enum[0];
    const type = [schema.type].flat()[0];
    if (type === "object") {
      const fields = Object.entries(schema.properties ?? {}).filter(([name]) => (schema.required ?? []).includes(name));
      return Object.fromEntries(depth > 4 ? [] : fields.map(([name, field]) => [name, example(field, all, depth + 1)]));
    }
    if (type === "array") return Array(schema.minItems ?? 0).fill(example(schema.items ?? {}, all, depth + 1));
    return { string: schema.format === "date-time" ? new Date().toISOString() : "", integer: 0, number: 0, boolean: false }[type] ?? null;
  };

  const field = (parameter) => {
    const input = make("input", { name: parameter.name, required: parameter.required === true });
    input.placeholder = [parameter.schema?.type ?? parameter.schema?.enum ?? ""].flat().join(", ");
    return make("label", { className: "field" }, parameter.name + (parameter.required ? " *" : ""), input, make("small", {}, parameter.description ?? ""));
  };

  const operation = (path, method, about, all) => {
    const form = make("form", {});
    const parameters = about.parameters ?? [];
    parameters.forEach((parameter) => form.append(field(parameter)));
    const content = about.requestBody?.content ?? {};
    const [mediaType, described] = Object.entries(content)[0] ?? [];
    const body = make("textarea", { spellcheck: false });
    if (mediaType) {
      body.value = JSON.stringify(example(described.schema ?? {}, all), null, 2);
      form.append(make("small", {}, mediaType), body);
    }
    const answer = make("div", {});
    form.append(make("button", {}, "Send"), answer);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const headers = token.value.trim() ? { Authorization: `Token ${token.value.trim()}` } : {};
      const query = new URLSearchParams();
      let target = path;
      for (const parameter of parameters) {
        const value = form.elements[parameter.name].value;
        if (value === "") continue;
        if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(value));
        else if (parameter.in === "header") headers[parameter.name] = value;
        else if (parameter.schema?.type === "array") value.split(",").forEach((one) => query.append(parameter.name, one.trim()));
        else query.append(parameter.name, value);
      }
      const request = { method: method.toUpperCase(), headers };
      if (mediaType) {
        headers["Content-Type"] = mediaType;
        request.body = body.value;
      }
      const text = query.toString();
      await send(target + (text ? `?${text}` : ""), request, answer);
    });
    const summary = make("summary", {}, make("span", { className: `method ${method}` }, method.toUpperCase()), make("code", {}, path), make("span", {}, about.summary ?? ""));
    return make("details", {}, summary, form);
  };

  const send = async (target, request, answer) => {
    const began = performance.now();
    const status = make("p", { className: "status" }, `${request.method} ${target} …`);
    const shown = make("pre", {});
    answer.replaceChildren(status, shown);
    try {
      const response = await fetch(target, request);
      const head = () => `${response.status} ${response.statusText}, ${Math.round(performance.now() - began)} ms`;
      status.textContent = head();
      status.classList.toggle("bad", !response.ok);
      // Piece by piece, so that a tail is seen as it comes.
      const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let piece = await reader?.read(); piece && !piece.done; piece = await reader.read()) {
        text += piece.value;
        shown.textContent = text;
        if (text.length > SHOWN) {
          shown.textContent = text.slice(0, SHOWN) + "\n… (cut short here)";
          await reader.cancel();
          break;
        }
      }
      status.textContent = head();
      if ((response.headers.get("content-type") ?? "").includes("json") && text.length <= SHOWN) {
        try {
          // Only laid out: numbers beyond what JavaScript holds would change if they were read.
          if (!/\d{16}/.test(text)) shown.textContent = JSON.stringify(JSON.parse(text), null, 2);
        } catch { /* It is several lines of JSON. */ }
      }
    } catch (error) {
      status.textContent = `No answer: ${error.message}`;
      status.classList.add("bad");
    }
  };

  const show = async () => {
    const main = $("operations");
    try {
      const schema = await (await fetch("/api/schema")).json();
      $("version").textContent = schema.info?.version ?? "";
      const all = schema.components?.schemas ?? {};
      const rows = Object.entries(schema.paths).flatMap(([path, methods]) =>
        Object.entries(methods).map(([method, about]) => [`${method} ${path} ${about.summary ?? ""}`.toLowerCase(), operation(path, method, about, all)]));
      main.replaceChildren(...rows.map(([, element]) => element));
      $("find").addEventListener("input", (event) => {
        const wanted = event.target.value.trim().toLowerCase();
        rows.forEach(([text, element]) => { element.hidden = !text.includes(wanted); });
      });
    } catch (error) {
      main.replaceChildren(make("p", { className: "bad" }, `The description could not be fetched: ${error.message}. Is the service running? Reload this page to try again.`));
    }
  };
  show();
})();
