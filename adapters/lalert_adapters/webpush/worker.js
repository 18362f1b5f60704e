/** The service worker: shows what the hub pushes, and opens the page of the place when a note is touched. */
addEventListener("install", () => skipWaiting());
addEventListener("push", (event) => { if (event.data) event.waitUntil(show(event.data.json())); });
addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data.url));
});
addEventListener("pushsubscriptionchange", (event) => event.waitUntil(renew(event)));

/** A later revision takes the place of an earlier one and sounds again; the same note a second time, or a check of the way, does not. */
async function show(note) {
  const shown = await registration.getNotifications({ tag: note.tag });
  await registration.showNotification(note.title, {
    body: note.body,
    lang: note.lang,
    dir: "auto",
    tag: note.tag,
    renotify: !note.answer && !shown.some(({ data }) => data?.key === note.key),
    silent: Boolean(note.answer),
    requireInteraction: note.urgent,
    data: { key: note.key, url: note.url, status: note.status },
  });
  if (note.answer) await fetch(note.answer, { method: "POST" });
}

async function open(path) {
  const wanted = new URL(path, location.origin);
  if (wanted.origin !== location.origin) return;
  const windows = await clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = windows.find(({ url }) => new URL(url).pathname === wanted.pathname);
  await (there ? there.focus() : clients.openWindow(wanted.href));
}

/** A push service may give a browser another address at any time. */
async function renew({ oldSubscription, newSubscription }) {
  if (!oldSubscription) return;
  const fresh = newSubscription ?? await registration.pushManager.subscribe(oldSubscription.options);
  const { endpoint, keys } = fresh.toJSON();
  await fetch("subscribe", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ endpoint, keys, replaces: oldSubscription.endpoint }),
  });
}
