// Drives the client for web pages against a running service, in a window made of what it uses.
//
//   node tests/eye_js.mjs EYE_JS URL WRITE_TOKEN READ_TOKEN PROXY_URL
//
// PROXY_URL is an address where nobody listens, which stands for a lost connection.
import { readFileSync } from "node:fs";
import vm from "node:vm";
import assert from "node:assert/strict";

const [file, url, write, read, nowhere] = process.argv.slice(2);
const source = readFileSync(file, "utf8");
const kept = new Map();

// A page: its own globals, a store that pages share.
const page = (path, options) => {
  const listeners = {};
  const beacons = [];
  const window = {
    crypto, URL, Blob, console: { warn() {}, error() {} }, setTimeout, clearTimeout, encodeURIComponent, JSON, Math, Number, Set, Date,
    fetch: (...given) => fetch(...given),
    location: { host: "shop.example", origin: "https://shop.example", pathname: path },
    document: { currentScript: null, referrer: "https://search.example/?q=secret", title: "Shop", visibilityState: "visible" },
    navigator: { sendBeacon: (target, body) => beacons.push([target, body]) },
    history: { pushState() {} },
    localStorage: { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => kept.set(name, value) },
    addEventListener: (name, listener) => (listeners[name] ??= []).push(listener),
  };
  window.window = window;
  vm.runInNewContext(source, window);
  window.eye.init(options);
  return { eye: window.eye, window, beacons, fire: (name, event) => (listeners[name] ?? []).forEach((listener) => listener(event)) };
};

const found = async (q) => {
  const answer = await fetch(`${url}/search?count=true&limit=1000&q=${encodeURIComponent(q)}`, { headers: { Authorization: `Token ${read}` } });
  return await answer.json();
};
const wait = (millis) => new Promise((resolve) => setTimeout(resolve, millis));
const until = async (what, holds) => {
  for (let tries = 0; tries < 100; tries++) {
    if (await holds()) return;
    await wait(100);
  }
  assert.fail(`never came: ${what}`);
};

// Events go out in one batch, in one session, which the next page goes on with.
const first = page("/a", { url, token: write });
const ids = [1, 2, 3].map((number) => first.eye.track("shop", "step", { number }));
await first.eye.flush();
const session = first.eye.session;
assert.deepEqual((await found(`session_id:${session}`)).events.map((event) => event.id).sort(), [...ids].sort());
const second = page("/b", { url, token: write });
assert.equal(second.eye.session, session);

// Without a connection events stay, also for the next page, and are sent under the same ids.
const offline = page("/c", { url: nowhere, token: write });
const lost = offline.eye.track("shop", "offline", {});
await offline.eye.flush();
assert.ok(kept.get(`eye.queue.${write}`).includes(lost));
const later = page("/d", { url, token: write });
later.fire("online");
await until("the event from without a connection", async () => (await found("name:offline")).count === 1);
assert.equal((await found("name:offline")).events[0].id, lost);
await until("an empty queue", () => kept.get(`eye.queue.${write}`) === "[]");

// On leaving, a beacon takes what is queued; that it is sent again from the next page changes nothing.
const leaving = page("/e", { url, token: write });
const left = leaving.eye.track("shop", "left", {});
leaving.fire("pagehide");
assert.equal(leaving.beacons.length, 1);
const [target, body] = leaving.beacons[0];
assert.ok(body.type === "text/plain" && target.includes("token="));
const beacon = await fetch(target, { method: "POST", body: await body.text(), headers: { "Content-Type": "text/plain" } });
assert.equal(beacon.status, 200);
const next = page("/f", { url, token: write });
await next.eye.flush();
await until("an empty queue", () => kept.get(`eye.queue.${write}`) === "[]");
const once = await found("name:left");
assert.deepEqual([once.count, once.events[0].id], [1, left]);

// Page views and clicks only when asked, and without what stands behind a question mark.
const automatic = page("/g", { url, token: write, auto: true });
const link = { localName: "a", id: "buy", dataset: {}, innerText: " Buy now ", href: "https://shop.example/buy?card=1", closest() { return this; } };
automatic.fire("click", { target: link });
await automatic.eye.flush();
await until("a view and a click", async () => (await found("category:page")).count === 2);
const told = JSON.stringify((await found("category:page")).events);
assert.ok(!told.includes("card=1") && !told.includes("secret") && told.includes("Buy now"));

// What the service refuses is not sent for ever.
const wrong = page("/h", { url, token: write });
wrong.eye.track("", "no category", {});
await wrong.eye.flush();
assert.equal(kept.get(`eye.queue.${write}`), "[]");
console.log("the client keeps its events, sends each once, and follows only what it is asked to");
process.exit(0);
