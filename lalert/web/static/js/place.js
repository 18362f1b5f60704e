/** A municipality's page, kept up to date. */
import { Board } from "./board.js";
import { showConnection } from "./connection.js";
import { List } from "./list.js";
import { page } from "./page.js";
import { Wording } from "./wording.js";

const wording = new Wording(page.wording);
const board = new Board(page);
const list = new List(board, wording, page);
showConnection(board, wording);
board.addEventListener("connection", () => list.state());
board.start();
