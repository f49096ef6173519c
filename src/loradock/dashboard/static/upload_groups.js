// Which of the chosen files make which adapter. A file is {path, file}; an adapter {name, files, folder}.

const ARCHIVE = /\.(zip|tar|tgz|tar\.gz)$/i;
const SAYS_NOTHING = /^(checkpoint-?\d*|adapter|adapters|lora|final|output|outputs|model|best|last)$/i;
const folderOf = (path) => path.split("/").slice(0, -1).join("/");
const within = (path, folder) => folder === "" || path.startsWith(`${folder}/`);

// "My adapter" → "My-adapter"; a file's own ending goes.
export const nameFrom = (text) =>
  text
    .replace(ARCHIVE, "")
    .replace(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, 96);

// A folder with an adapter_config.json is an adapter with all that lies in it (checkpoints, too); an archive is one;
// where there is neither, everything together is one, and the server says what it lacks. Returns [adapters, left out].
export function adaptersIn(chosen) {
  const roots = chosen.filter(({ path }) => path.split("/").pop() === "adapter_config.json").map(({ path }) => folderOf(path));
  const tops = roots.filter((root) => !roots.some((other) => other !== root && within(root, other)));
  const folders = tops.map((root) => ({ name: nameOfFolder(root), files: inside(chosen, root), folder: root }));
  const loose = chosen.filter(({ path }) => !tops.some((root) => within(path, root)));
  const archives = loose.filter(({ path }) => ARCHIVE.test(path));
  const packed = archives.map(({ path, file }) => {
    const name = path.split("/").pop();
    return { name: nameFrom(name), files: [{ path: name, file }], folder: null };
  });
  const found = [...folders, ...packed].sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
  if (found.length) return [distinct(found), loose.length - archives.length];
  const top = chosen.length && chosen[0].path.includes("/") ? chosen[0].path.split("/")[0] : "";
  return [chosen.length ? [{ name: nameFrom(top), files: chosen, folder: null }] : [], 0];
}

// With the adapter's own folder on top, whatever lies above it.
function inside(chosen, root) {
  const above = folderOf(root);
  const cut = above ? above.length + 1 : 0;
  return chosen.filter(({ path }) => within(path, root)).map(({ path, file }) => ({ path: path.slice(cut), file }));
}

function nameOfFolder(root) {
  const parts = root.split("/");
  const own = parts.pop();
  return nameFrom(SAYS_NOTHING.test(own) && parts.length ? `${parts.pop()}-${own}` : own);
}

function distinct(found) {
  const seen = new Set();
  for (const one of found) {
    const first = one.name;
    for (let number = 2; one.name && seen.has(one.name); number += 1) one.name = `${first}-${number}`;
    seen.add(one.name);
  }
  return found;
}

// The base model that the adapter's configuration names; "" where it names none that others would know it by.
export async function baseOf({ files }) {
  const config = files.find(({ path }) => path.split("/").pop() === "adapter_config.json");
  if (!config) return "";
  try {
    const base = JSON.parse(await config.file.text()).base_model_name_or_path;
    return typeof base === "string" && /^[\w.-]+\/[\w.-]+$/.test(base) ? base : "";
  } catch {
    return ""; // the server says what is wrong with it
  }
}
