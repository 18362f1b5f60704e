/** What is in force now, kept true by the stream: the state behind every live page. It holds one alert per incident, and no history. */
import { AlertStream } from "./lalert-stream.js";
import { compare, expires, keyOf } from "./cards.js";

const MAX_ALERTS = 2000;
const STALE_SECONDS = 90;
/** About an alert, and no state of it. */
const ABOUT = ["Ack", "Error"];

/**
 * Events: `change` with `{added, changed, ended}` (arrays of alerts); `connection` each second and whenever it changed.
 * `page` is what the server wrote into the page: query, after, now.
 */
export class Board extends EventTarget {
  #alerts = new Map(); #query; #skew; #retries = 0; #timer = 0; #asking = null; #confirmed; #doubt = false; #loaded = false;

  constructor(page) {
    super();
    this.#query = new URLSearchParams(page.query);
    this.#skew = Date.parse(page.now) - Date.now();
    // The page itself is news of that moment.
    this.#confirmed = Date.parse(page.now);
    this.refused = 0;
    this.stream = new AlertStream(`/v1/stream?${this.#query}`, { after: page.after });
    const on = (kind, act) => this.stream.addEventListener(kind, ({ detail }) => act(detail));
    on("alert", (alert) => this.#apply(alert));
    on("expired", (alert) => this.#apply(alert, true));
    // The hub sends a snapshot right behind a gap; what it cannot write down it only names, and then has to be asked.
    on("gap", () => this.#refresh(8000));
    on("snapshot", ({ alerts }) => this.#replace(alerts.filter((alert) => alert.info)));
    on("bye", () => { if (this.stream.state === "closed") this.#refresh(60000); });
    on("heartbeat", ({ time }) => { if (time) this.#skew = Date.parse(time) - Date.now(); });
    // 5xx and 429 pass; anything else will not, until a person changes something.
    on("refused", ({ status }) => { this.refused = status < 500 && status !== 429 ? status : 0; });
    on("state", () => { if (this.stream.state === "live") this.refused = 0; this.#tick(); });
  }

  start() {
    this.#refresh(0);
    // One timer for the life of the page: ages, and alerts that end by themselves.
    setInterval(() => this.#tick(), 1000);
    // A page taken out of the browser's history has slept.
    addEventListener("pageshow", (event) => { if (event.persisted) this.#refresh(0); });
  }

  /** The hub's time in milliseconds, for a screen whose own clock is wrong. */
  now() { return Date.now() + this.#skew; }

  /** Alerts in reading order. */
  list() { return [...this.#alerts.values()].sort(compare); }

  /** When the shown state was last known to be true, in the hub's time. */
  get confirmed() { return this.#doubt ? this.#confirmed : Math.max(this.#confirmed, this.now() - this.stream.age * 1000); }

  get stale() { return this.now() - this.confirmed > STALE_SECONDS * 1000; }

  get age() { return Math.max(0, (this.now() - this.confirmed) / 1000); }

  /** "stale" outranks what the connection believes of itself. */
  get connection() { return this.stale ? "stale" : this.stream.state === "closed" ? (this.#loaded ? "waiting" : "connecting") : this.stream.state; }

  #tick() {
    // Only what the hub was heard after: it may have been prolonged while nobody could tell us.
    const over = [...this.#alerts.values()].filter((alert) => (expires(alert) ?? Infinity) <= this.confirmed);
    for (const alert of over) this.#alerts.delete(keyOf(alert));
    if (over.length) this.#changed({ ended: over });
    this.dispatchEvent(new CustomEvent("connection"));
  }

  #apply(alert, expired = false) {
    if (ABOUT.includes(alert.msgType)) return;
    const key = keyOf(alert);
    const old = this.#alerts.get(key);
    // The hub names what a message ended or took the place of, whatever incidents that began as.
    const named = new Set(alert.replaced ?? []);
    const replaced = (shown) => shown.status === alert.status && named.has(shown.id);
    if (alert.msgType === "Cancel" || expired || (expires(alert) ?? Infinity) <= this.now()) {
      const gone = [...this.#alerts].filter(([other, shown]) => (other === key && shown.id === alert.id) || replaced(shown));
      for (const [other] of gone) this.#alerts.delete(other);
      if (gone.length) this.#changed({ ended: gone.map(([, shown]) => ({ ...shown, reason: alert.reason })) });
      return;
    }
    // An update comes to everybody who was told before, even where it no longer applies. Whether it does is the hub's to say.
    if (alert.msgType === "Update" && !this.#surelyWanted(alert)) {
      this.#refresh(2000);
      return;
    }
    const others = [...this.#alerts].filter(([other, shown]) => other !== key && replaced(shown));
    for (const [other] of others) this.#alerts.delete(other);
    this.#alerts.set(key, alert);
    if (this.#alerts.size > MAX_ALERTS) this.#alerts.delete(keyOf(this.list().at(-1)));
    // The others live on in it: nothing has ended.
    this.#changed(old || others.length ? { changed: [alert] } : { added: [alert] });
  }

  #surelyWanted(alert) {
    const asked = [...this.#query].filter(([name]) => name !== "status");
    if (!asked.length) return true;
    return asked.every(([name]) => name === "area") && asked.some(([, area]) => alert.codes.some((code) => code === area || code === area.slice(0, 2) || (area.length === 2 && code.startsWith(area))));
  }

  /** Take the whole truth from the hub, and go on from its position. `spread`: milliseconds over which all screens ask. */
  #refresh(spread) {
    // Until the answer is there, nothing newer than this is known to be true, however lively the stream.
    this.#confirmed = this.confirmed;
    this.#doubt = this.#loaded;
    clearTimeout(this.#timer);
    this.#asking?.abort();
    this.#timer = setTimeout(async () => {
      const asking = this.#asking = new AbortController();
      const late = setTimeout(() => asking.abort(), 15000);
      try {
        const answer = await fetch(`/v1/alerts?active=true&${this.#query}`, { headers: { accept: "application/json" }, cache: "no-store", signal: asking.signal });
        if (!answer.ok) throw new Error(String(answer.status));
        const { alerts, next } = await answer.json();
        this.#asking = null;
        this.#retries = 0;
        this.#replace(alerts);
        this.stream.open(next);
      } catch {
        // Overtaken by a snapshot, or by a later question.
        if (asking !== this.#asking) return;
        // Better the stream from the page's own position than nothing, while the question is asked again.
        if (this.stream.state === "closed") this.stream.open();
        this.#refresh(Math.min(60000, 4000 * 2 ** this.#retries++));
      } finally {
        clearTimeout(late);
      }
    }, Math.random() * spread);
  }

  #replace(alerts) {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    this.#asking = null;
    this.#confirmed = this.now();
    this.#doubt = false;
    const before = this.#alerts;
    this.#alerts = new Map(alerts.slice(-MAX_ALERTS).map((alert) => [keyOf(alert), alert]));
    const difference = {
      added: this.#loaded ? alerts.filter((alert) => !before.has(keyOf(alert))) : [],
      changed: alerts.filter((alert) => before.has(keyOf(alert)) && before.get(keyOf(alert)).id !== alert.id),
      ended: [...before.values()].filter((alert) => !this.#alerts.has(keyOf(alert))),
    };
    this.#loaded = true;
    this.#changed(difference);
  }

  #changed({ added = [], changed = [], ended = [] }) {
    this.dispatchEvent(new CustomEvent("change", { detail: { added, changed, ended } }));
  }
}
