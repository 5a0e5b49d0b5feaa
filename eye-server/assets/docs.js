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

  // A text that is taken: an id of its own, this moment, or a word where it may not be blank.
  const text = (schema) => {
    if (schema.format === "uuid") return crypto.randomUUID?.() ?? "";
    if (schema.format === "date-time" || schema.description?.startsWith("RFC 3339")) return new Date().toISOString();
    return "demo".repeat(Math.ceil((schema.minLength ?? 0) / 4));
  };

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
    return { string: text(schema), integer: 0, number: 0, boolean: false }[type] ?? null;
  };

  const field = (parameter) => {
    const input = make("input", { name: parameter.name, required: parameter.required === true });
    input.placeholder = [parameter.schema?.type ?? parameter.schema?.enum ?? ""].flat().join(", ");
    return make("label", { className: "field" }, parameter.name + (parameter.required ? " *" : ""), input, make("small", {}, parameter.description ?? ""));
  };

  const named = (schema, all) => all[schema.$ref?.split("/").pop()] ?? schema;

  // What a value may be, in a few words.
  const kind = (schema, all) => {
    if (schema.$ref) return schema.$ref.split("/").pop();
    if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
    const either = schema.oneOf ?? schema.anyOf;
    if (either) return either.map((one) => kind(one, all)).join(" or ");
    return [schema.type ?? "anything"].flat().map((type) => (type === "array" ? `array of ${kind(schema.items ?? {}, all)}` : schema.format ?? type)).join(" or ");
  };

  // The fields of a body, and what is answered: to read, not to fill in.
  const row = (name, what, about) => make("p", { className: "field" }, make("code", {}, name), make("span", {}, what), make("small", {}, about ?? ""));

  const fields = (schema, all) => {
    const shape = named((schema.oneOf ?? [schema])[0], all);
    return Object.entries(shape.properties ?? {}).map(([name, value]) =>
      row(name + ((shape.required ?? []).includes(name) ? " *" : ""), kind(value, all), value.description));
  };

  const answers = (responses, all) => {
    const said = Object.entries(responses).filter(([, told]) => !told.$ref);
    const rows = said.map(([status, told]) => {
      const shapes = Object.entries(told.content ?? {}).map(([type, { schema }]) => (type === "application/json" ? kind(schema ?? {}, all) : type));
      return row(status, shapes.join(", ") || "no body", told.description);
    });
    const problems = Object.keys(responses).filter((status) => responses[status].$ref);
    if (problems.length) rows.push(row(problems.join(" "), "Problem", "What is wrong, with a code, and how to mend it."));
    return make("details", { className: "answers" }, make("summary", {}, "Answers"), ...rows);
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
      form.append(make("small", {}, Object.keys(content).join(", ")), body, ...fields(described.schema ?? {}, all));
    }
    const answer = make("div", {});
    form.append(answers(about.responses ?? {}, all), make("button", {}, "Send"), answer);
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
      const asked = query.toString();
      await send(target + (asked ? `?${asked}` : ""), request, answer);
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
