/** Says on every page how old its knowledge is: silence must never look like calm. */

/** Keep `#pulse` and `#lost` true; calls `onStale(stale)` whenever the page goes stale or comes back. */
export function showConnection(board, wording, onStale = () => {}) {
  const pulse = document.getElementById("pulse");
  const lost = document.getElementById("lost");
  const within = (at, name) => at.querySelector(`[data-slot="${name}"]`);
  let shown = "";
  const show = () => {
    const state = board.connection;
    const age = within(pulse, "age");
    if (age) age.textContent = wording.text("connection.heard", { age: wording.ago(board.age) });
    const since = wording.moment(board.confirmed, "exact");
    const now = `${state}|${board.refused}|${state === "stale" ? since : ""}`;
    // Written only when it changed: a screen reader must not be told every second.
    if (now === shown) return;
    const staleBefore = shown.startsWith("stale");
    shown = now;
    pulse.classList.add("ready");
    pulse.dataset.state = state;
    within(pulse, "words").textContent = board.refused
      ? wording.text("connection.refused", { status: board.refused })
      : wording.text(state === "stale" ? "connection.stale_short" : `connection.${state}`);
    lost.hidden = state !== "stale";
    if (state === "stale") {
      within(lost, "since").textContent = wording.text("connection.stale", { time: since });
      within(lost, "help").textContent = wording.text("connection.stale_help", { time: since });
    }
    document.documentElement.classList.toggle("stale", state === "stale");
    if (staleBefore !== (state === "stale")) onStale(state === "stale");
  };
  board.addEventListener("connection", show);
  show();
}
