// The Eye's client for web pages: <script src="https://eye.example/eye.js" data-token="eye_w_…" data-auto></script>, or
// eye.init({ url, token, auto }). eye.track(category, name, data) queues an event; events go out in batches, are kept while there is
// no connection, and are sent again under the same ids, so that none is stored twice.
(() => {
  "use strict";
  if (window.eye?.track) return;
  const KEPT = 1000, BATCH = 200, EVERY = 3000, BEACON = 60000, PAUSE_MAX = 300000;
  const script = document.currentScript;
  let url, token, timer, pause = 0, sending = false, queue = [], listening = false;

  const store = (name, value) => {
    try {
      if (value === undefined) return localStorage.getItem("eye." + name);
      localStorage.setItem("eye." + name, value);
    } catch { /* Private windows and full stores: what is kept, is kept in this page only. */ }
    return null;
  };
  const uuid = () => crypto.randomUUID?.() ??
    "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (c) => (c ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (c / 4)))).toString(16));
  let session = store("session");
  const newSession = () => { session = uuid(); store("session", session); return session; };
  if (!session) newSession();

  const keep = () => {
    // The oldest go first: a page that cannot send for days must not fill the browser.
    queue = queue.slice(-KEPT);
    store("queue." + token, JSON.stringify(queue));
  };
  const later = (millis) => { clearTimeout(timer); timer = setTimeout(flush, millis); };
  const target = (query) => url + "/events" + (query ? "?token=" + encodeURIComponent(token) : "");

  // What the service has judged, good or bad, is done with; everything else is sent again.
  async function flush() {
    if (sending || !queue.length || !token) return;
    sending = true;
    clearTimeout(timer);
    const batch = queue.slice(0, BATCH);
    let done = false, wait = 0;
    try {
      const answer = await fetch(target(), {
        method: "POST", keepalive: batch.length < 20, body: JSON.stringify(batch),
        headers: { "Content-Type": "application/json", Authorization: "Token " + token },
      });
      done = answer.status < 400 || [400, 409, 413].includes(answer.status);
      wait = 1000 * (Number(answer.headers.get("Retry-After")) || 0);
      if (answer.status === 207 || answer.status === 400) answer.json().then((told) => console.warn("eye: events were refused", told.errors ?? told), () => {});
      if ([401, 403].includes(answer.status)) console.error("eye: the token is not accepted (" + answer.status + ")");
    } catch { /* No connection. */ }
    sending = false;
    if (done) {
      const sent = new Set(batch.map((event) => event.id));
      queue = queue.filter((event) => !sent.has(event.id));
      pause = 0;
    } else {
      pause = Math.min(PAUSE_MAX, Math.max(wait, pause * 2 || EVERY)) * (0.75 + Math.random() / 2);
    }
    keep();
    if (queue.length) later(done ? 0 : pause);
  }

  // On leaving there is no waiting for an answer: what may have arrived stays queued, and its ids make that harmless.
  const leave = () => {
    if (!queue.length || !token) return;
    let batch = queue.slice(0, BATCH), body = JSON.stringify(batch);
    while (body.length > BEACON && batch.length > 1) { batch = batch.slice(0, batch.length >> 1); body = JSON.stringify(batch); }
    navigator.sendBeacon?.(target(true), new Blob([body], { type: "text/plain" }));
  };

  const track = (category, name, data = {}) => {
    const event = { id: uuid(), session_id: session, category, name, timestamp: new Date().toISOString(), data };
    queue.push(event);
    keep();
    if (!sending) queue.length >= BATCH ? flush() : later(pause || EVERY);
    return event.id;
  };

  const where = () => ({ host: location.host, path: location.pathname, referrer: document.referrer.split("?")[0] });
  const automatic = () => {
    let last;
    const view = () => { if (location.pathname !== last) { last = location.pathname; track("page", "view", { ...where(), title: document.title }); } };
    view();
    addEventListener("popstate", view);
    const push = history.pushState;
    history.pushState = function (...given) { push.apply(this, given); view(); };
    addEventListener("click", (click) => {
      const element = click.target.closest?.("a, button, [data-eye]");
      if (element) track("page", "click", { ...where(), element: element.localName, id: element.id, text: (element.dataset.eye || element.innerText || "").trim().slice(0, 80), href: (element.href || "").split("?")[0] });
    }, true);
  };

  const init = (options) => {
    url = (options.url || (script ? new URL(script.src).origin : location.origin)).replace(/\/$/, "");
    token = options.token;
    try { queue = JSON.parse(store("queue." + token) || "[]").concat(queue); } catch { /* Somebody else's. */ }
    if (!listening) {
      listening = true;
      addEventListener("pagehide", leave);
      addEventListener("visibilitychange", () => document.visibilityState === "hidden" && leave());
      addEventListener("online", () => { pause = 0; flush(); });
    }
    if (queue.length) later(0);
    if (options.auto) automatic();
  };
  window.eye = { init, track, flush, newSession, get session() { return session; } };
  if (script?.dataset.token) init({ url: script.dataset.url, token: script.dataset.token, auto: "auto" in script.dataset });
})();
