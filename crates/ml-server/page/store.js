// Conversations, kept in this browser's IndexedDB, one record each; other tabs are told of changes.

const NAME = "ml-conversations";
const TABLE = "conversations";

let database = null;
// Where the browser keeps nothing, as in some private windows, they last as long as the page.
const memory = new Map();
const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel(NAME) : null;

/** Opens the store; gives whether it keeps anything. */
export async function open() {
  try {
    database = await new Promise((resolve, reject) => {
      const opening = indexedDB.open(NAME, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { keyPath: "id" });
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = () => reject(opening.error);
      opening.onblocked = () => reject(new Error("blocked"));
    });
    return true;
  } catch {
    return false;
  }
}

function run(mode, work) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(TABLE, mode);
    const asked = work(transaction.objectStore(TABLE));
    transaction.oncomplete = () => resolve(asked.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** All conversations, the youngest first. */
export async function all() {
  const found = database ? await run("readonly", (table) => table.getAll()) : [...memory.values()];
  return found.sort((a, b) => b.updated - a.updated);
}

/** Keeps a conversation as it is now. */
export async function keep(conversation) {
  if (database) await run("readwrite", (table) => table.put(conversation));
  else memory.set(conversation.id, conversation);
  channel?.postMessage(conversation.id);
}

/** Forgets a conversation. */
export async function forget(id) {
  if (database) await run("readwrite", (table) => table.delete(id));
  else memory.delete(id);
  channel?.postMessage(id);
}

/** Calls `changed` with the id of what another tab has kept or forgotten. */
export function onChange(changed) {
  channel?.addEventListener("message", (event) => changed(event.data));
}

/** An id for a new conversation. */
export function newId() {
  const random = crypto.getRandomValues(new Uint32Array(3));
  return [...random].map((part) => part.toString(36)).join("");
}

/** A small thing that is kept for all conversations; `fallback` where there is none. */
export function recall(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? fallback;
  } catch {
    return fallback;
  }
}

/** Keeps a small thing. */
export function remember(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // It lasts as long as the page.
  }
}
