/** The button on the page of a place that turns notes of it on and off. */
const WORDS = {
  ja: {
    on: "この地域の情報を通知で受け取る",
    off: "この地域の通知を止める",
    grave: "警戒レベル3以上だけ",
    active: "この端末に通知します。届かないこともあるので、ほかの手段とあわせてお使いください。",
    ended: "この地域の通知を止めました。",
    denied: "このサイトの通知は、ブラウザの設定で拒否されています。設定で許可してから、もう一度押してください。",
    install: "iPhone・iPadでは、共有ボタンから「ホーム画面に追加」を選び、追加したアイコンから開くと、通知を受け取れるようになります。",
    unsupported: "このブラウザは通知に対応していません。",
    failed: "設定できませんでした。しばらくしてから、もう一度押してください。",
  },
  en: {
    on: "Notify me of this place",
    off: "Stop notifications of this place",
    grave: "Only alert level 3 and above",
    active: "This device will be notified. A notification may not arrive: do not rely on it alone.",
    ended: "Notifications of this place are off.",
    denied: "Your browser's settings refuse notifications from this site. Allow them there, then press again.",
    install: "On an iPhone or iPad, choose Add to Home Screen from the share menu and open this page from its icon: then it can notify you.",
    unsupported: "This browser cannot show notifications.",
    failed: "That did not work. Please press again in a while.",
  },
};

const DAY_MS = 86400000;
const NOTHING = { places: [], min_level: null };
const here = new URL("./", import.meta.url);
const page = JSON.parse(document.getElementById("page").textContent);
const words = WORDS[page.lang] ?? WORDS.en;
const place = location.pathname.split("/").at(-1);
const button = document.createElement("button");
const grave = document.createElement("input");
const choice = document.createElement("label");
const status = document.createElement("span");
const GRAVE_LEVEL = 3;
let subscribed = false;

/** Safari on telephones has notes for pages on the home screen only, and `standalone` for them alone. */
function build() {
  const line = document.createElement("p");
  line.className = "links";
  line.id = "push";
  button.type = "button";
  grave.type = "checkbox";
  choice.append(grave, ` ${words.grave}`);
  button.hidden = choice.hidden = true;
  status.setAttribute("role", "status");
  line.append(button, choice, status);
  document.getElementById("follow").after(line);
  const manifest = document.createElement("link");
  manifest.rel = "manifest";
  manifest.href = new URL(`${place}.webmanifest`, here);
  document.head.append(manifest);
}

function show(on, sentence = on ? "active" : "") {
  subscribed = on;
  button.textContent = on ? words.off : words.on;
  button.hidden = choice.hidden = false;
  status.textContent = words[sentence] ?? "";
}

async function ask(path, body) {
  const answer = await fetch(new URL(path, here), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(String(answer.status));
  return await answer.json();
}

/** What the hub last said of this browser, so that not everybody asks it who opens the page for the same alert. */
const memory = {
  key: `lalert ${here.pathname}`,
  read(endpoint) {
    try {
      const kept = JSON.parse(localStorage.getItem(this.key));
      return kept?.endpoint === endpoint ? kept : null;
    } catch { return null; }
  },
  write(endpoint, told) {
    try { localStorage.setItem(this.key, JSON.stringify({ ...told, endpoint, at: Date.now() })); } catch { /* it is asked each time */ }
  },
};

async function followed(endpoint) {
  const kept = memory.read(endpoint);
  if (kept && Math.abs(Date.now() - kept.at) < DAY_MS) return kept;
  try {
    const told = await ask("places", { endpoint });
    memory.write(endpoint, told);
    return told;
  } catch { return kept ?? NOTHING; }
}

/** The browser's own subscription, or null; it is one for all places. */
async function existing() {
  const registration = await navigator.serviceWorker.getRegistration(here.href);
  return await registration?.pushManager.getSubscription() ?? null;
}

function activated(registration) {
  const worker = registration.installing ?? registration.waiting;
  if (registration.active || !worker) return Promise.resolve();
  return new Promise((resolve, reject) => worker.addEventListener("statechange", () => {
    if (worker.state === "activated") resolve();
    if (worker.state === "redundant") reject(new Error("the service worker did not start"));
  }));
}

async function subscription() {
  const answer = await fetch(new URL("settings.json", here), { cache: "no-store" });
  if (!answer.ok) throw new Error(String(answer.status));
  const { key } = await answer.json();
  const point = Uint8Array.from(atob(key.replaceAll("-", "+").replaceAll("_", "/")), (byte) => byte.charCodeAt(0));
  const registration = await navigator.serviceWorker.register(new URL("worker.js", here), { scope: here.pathname });
  await activated(registration);
  const options = { userVisibleOnly: true, applicationServerKey: point };
  try {
    return await registration.pushManager.subscribe(options);
  } catch (error) {
    // One that was made with another key of the hub's, which it has no more, is in the way.
    const old = await registration.pushManager.getSubscription();
    if (!old) throw error;
    await old.unsubscribe();
    return await registration.pushManager.subscribe(options);
  }
}

async function turnOn() {
  if (await Notification.requestPermission() !== "granted") {
    show(false, "denied");
    return;
  }
  const { endpoint, keys } = (await subscription()).toJSON();
  memory.write(endpoint, await ask("subscribe", { endpoint, keys, place, lang: page.content, min_level: grave.checked ? GRAVE_LEVEL : null }));
  show(true);
}

async function turnOff() {
  const known = await existing();
  if (known) {
    const left = await ask("unsubscribe", { endpoint: known.endpoint, place });
    memory.write(known.endpoint, left);
    if (!left.places.length) await known.unsubscribe();
  }
  show(false, "ended");
}

async function change(act, undo = () => {}) {
  button.disabled = grave.disabled = true;
  try {
    await act();
  } catch {
    undo();
    show(subscribed, "failed");
  } finally {
    button.disabled = grave.disabled = false;
  }
}

async function begin() {
  build();
  if (!("serviceWorker" in navigator && "PushManager" in window && "Notification" in window)) {
    status.textContent = navigator.standalone === false ? words.install : words.unsupported;
    return;
  }
  button.addEventListener("click", () => change(subscribed ? turnOff : turnOn));
  grave.addEventListener("change", () => { if (subscribed) change(turnOn, () => { grave.checked = !grave.checked; }); });
  const known = await existing().catch(() => null);
  const { places, min_level: level } = known ? await followed(known.endpoint) : NOTHING;
  grave.checked = level !== null;
  show(places.includes(place), !places.length && Notification.permission === "denied" ? "denied" : undefined);
}

begin();
