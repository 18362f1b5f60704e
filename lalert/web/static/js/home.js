/** The home page, kept up to date: list and map of what is in force. */
import { Board } from "./board.js";
import { showConnection } from "./connection.js";
import "./copy.js";
import { List } from "./list.js";
import { Chart } from "./map.js";
import { page } from "./page.js";
import { Wording } from "./wording.js";

const wording = new Wording(page.wording);
const board = new Board(page);
const list = new List(board, wording, page);
showConnection(board, wording);
board.addEventListener("connection", () => list.state());

// Without the map the list still says everything.
let chart = null;
try {
  chart = new Chart(document.getElementById("map"), page, wording);
} catch (error) {
  console.warn("map", error);
}
const cards = document.getElementById("cards");
board.addEventListener("change", () => {
  const alerts = board.list();
  chart?.show(alerts);
  const placed = new Set(chart ? alerts.filter((alert) => alert.bbox || alert.codes.length).map((alert) => `${alert.status}|${alert.incident}`) : []);
  for (const element of cards.children) element.querySelector(".locate").hidden = !placed.has(element.dataset.key);
});
cards.addEventListener("click", ({ target }) => {
  const button = target.closest(".locate");
  if (button) chart.fit(button.closest(".card").dataset.key);
});
board.start();
