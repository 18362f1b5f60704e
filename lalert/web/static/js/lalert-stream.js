/**
 * Follows the alert stream of a hub from its last position on, however often the connection breaks.
 *
 *     const stream = new AlertStream("/v1/stream?area=432032");
 *     stream.addEventListener("alert", ({ detail }) => show(detail));
 *     stream.addEventListener("gap", () => loadEverythingAgain());
 *     stream.open();
 *
 * Events: `alert`, `expired`, `snapshot`, `gap`, `heartbeat`, `bye` with the hub's JSON as `detail`; `state` whenever `state` changed
 * ("connecting", "live", "waiting", "closed"); `refused` with `{status}` when the hub answers with an HTTP error.
 * An alert that arrives twice is told once. After a `gap` something may be missing; what is in force follows in a `snapshot`. After a `bye` whose
 * `reconnect` is null the stream stays closed: something has to be changed first, and `detail` says what.
 */
const KINDS = ["alert", "expired", "snapshot", "gap", "heartbeat", "bye"];
const REMEMBERED = 1000;

/** Seconds since a mark. Of two clocks the less flattering counts: one stands still while the machine sleeps, the other may be set. */
const mark = () => [Date.now(), performance.now()];
const since = ([wall, ticks]) => Math.max(0, Date.now() - wall, performance.now() - ticks) / 1000;

export class AlertStream extends EventTarget {
  #url; #quiet; #longest; #source = null; #timer = 0; #watch = 0; #failures = 0; #seen = new Set(); #heard = mark(); #tried = mark();

  /** `quiet`: seconds of silence that count as a dead connection (a heartbeat comes every 15); `longest`: seconds between two tries. */
  constructor(url, { after = null, quiet = 50, longest = 30 } = {}) {
    super();
    this.#url = new URL(url, location.href);
    this.#quiet = quiet;
    this.#longest = longest;
    this.position = after;
    this.state = "closed";
  }

  /** Seconds since the hub was last heard. */
  get age() { return since(this.#heard); }

  /** Start, or start again from another position. */
  open(after = this.position) {
    this.close();
    this.position = after;
    // EventSource does not notice a connection that died silently (a cable, a sleeping laptop, a proxy): heartbeats that stay away do.
    this.#watch = setInterval(() => {
      if (this.#source && Math.min(since(this.#heard), since(this.#tried)) > this.#quiet) this.#retry();
    }, 5000);
    addEventListener("online", this.#hurry);
    this.#connect();
  }

  close() {
    this.#drop();
    clearInterval(this.#watch);
    removeEventListener("online", this.#hurry);
    this.#enter("closed");
  }

  #hurry = () => { if (!this.#source) this.#connect(); };

  #connect() {
    this.#drop();
    this.#tried = mark();
    if (this.position) this.#url.searchParams.set("after", this.position);
    const source = this.#source = new EventSource(this.#url);
    source.onopen = () => { this.#heard = mark(); this.#failures = 0; this.#enter("live"); };
    // EventSource gives up for good on an HTTP error, and would come back at once with everybody else after a restart: we come back ourselves.
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) this.#ask(); this.#retry(); };
    for (const kind of KINDS) source.addEventListener(kind, (event) => this.#take(kind, event));
    if (this.state !== "waiting") this.#enter("connecting");
  }

  #take(kind, event) {
    this.#heard = mark();
    let data;
    try { data = Object(JSON.parse(event.data)); } catch { kind = "gap"; data = { reason: "unreadable" }; }
    const counted = kind === "alert" || kind === "expired";
    this.position = (kind === "gap" || kind === "bye" ? null : data.position) ?? (event.lastEventId || this.position);
    // The end of an alert carries the position of whatever came last: the alert itself tells it from others.
    const own = kind === "expired" && data.id ? `expired ${data.id}` : `${kind} ${this.position}`;
    if (counted && this.#seen.has(own)) return;
    if (counted && this.#seen.add(own).size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value);
    this.#tell(kind, data);
    if (kind === "bye" && event.target === this.#source) data.reconnect === null ? this.close() : this.#retry(data.reconnect);
  }

  /** `asked`: seconds that the hub asked for, on average. */
  #retry(asked = 0) {
    this.#drop();
    // Anywhere between now and the limit: ten thousand screens must not return in the same second.
    const limit = Math.max(2 * asked, Math.min(this.#longest, 2 * 2 ** Math.min(this.#failures++, 10)));
    this.#timer = setTimeout(() => this.#connect(), 200 + Math.random() * limit * 1000);
    this.#enter("waiting");
  }

  /** EventSource hides the status. A position that the hub refuses must not lock a reader out for good. */
  async #ask() {
    const asked = this.position;
    const stop = new AbortController();
    try {
      const { status } = await fetch(this.#url, { headers: { accept: "text/event-stream" }, signal: stop.signal, cache: "no-store" });
      if (status >= 400) this.#tell("refused", { status });
      if ((status === 400 || status === 410) && asked && asked === this.position) {
        this.position = null;
        this.#url.searchParams.delete("after");
        this.#tell("gap", { reason: "position refused" });
      }
    } catch { /* no answer at all: the next try will tell */ } finally { stop.abort(); }
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #enter(state) {
    if (this.state === state) return;
    this.state = state;
    this.#tell("state", { state });
  }

  #tell(kind, detail) { this.dispatchEvent(new CustomEvent(kind, { detail })); }
}
