// One model's files, sent to the API with a bar of bytes.

export const size = (bytes) => {
  const unit = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(bytes, 1)) / 3)));
  return `${(bytes / 1000 ** unit).toFixed(unit ? 1 : 0)} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
};

// `answer` resolves to {job}, {aborted}, or {message, param} where it was refused.
export function sendFiles(url, fields, files, progress) {
  const values = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) values.append(name, value);
  for (const { path, file } of files) values.append("files", file, path);
  const request = new XMLHttpRequest();
  request.open("POST", url);
  request.setRequestHeader("X-CSRF-Token", csrfToken());
  request.upload.addEventListener("progress", ({ loaded, total }) => progress(loaded, total));
  const answer = new Promise((resolve) => {
    request.addEventListener("load", () => resolve(read(request)));
    request.addEventListener("error", () => resolve({ message: "The connection broke before everything was sent. Try again." }));
    request.addEventListener("abort", () => resolve({ aborted: true }));
  });
  request.send(values);
  return { answer, abort: () => request.abort() };
}

function read(request) {
  let body = {};
  try {
    body = JSON.parse(request.responseText);
  } catch {
    // A proxy in between answered.
  }
  if (request.status === 200) return { job: body.data.job_id };
  return { message: body.message ?? `The server answered with status ${request.status}.`, param: body.error?.param };
}
