/** What the server wrote into the page for its scripts. */
export const page = JSON.parse(document.getElementById("page").textContent);
