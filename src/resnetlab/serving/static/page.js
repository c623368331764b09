import { words } from "./words.js";

const TOP = 5;
const byId = (id) => document.getElementById(id);

let language = "en";
let card = null;
let token = null;
let shown = null; // the answers on the page, with the address of each image

const say = (key, ...values) => {
  const word = words[language][key];
  return typeof word === "function" ? word(...values) : word;
};
const percent = (value) =>
  value.toLocaleString(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 }) +
  (language === "zh" ? "%" : "\u00a0%"); // never at the beginning of a line

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// ---- language

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const each of document.querySelectorAll("[data-word]")) {
    each.textContent = say(each.dataset.word);
  }
  byId("language").textContent = say("other");
  byId("language").lang = language === "zh" ? "en" : "zh-Hans";
  byId("error").textContent = "";
  byId("status").textContent = "";
  if (card) describe();
  if (shown) showAnswers(shown);
}

function describe() {
  document.title = `${say("title")} · ${card.name}`;
  byId("name").textContent = card.name;
  byId("knows").textContent = say("knows", card.classes.length);
  byId("facts").textContent = say("facts", card);
  const classes = byId("classes");
  classes.hidden = false;
  classes.querySelector("ul").replaceChildren(
    ...card.classes.map((name) => element("li", { textContent: name })),
  );
  const limits = [
    say("limitClasses", card.classes.length),
    card.threshold === null ? say("limitNoThreshold") : say("limitThreshold", percent(card.threshold)),
    say("limitConfidence"),
    say("limitSize", card.image_size, card.crop),
    ...(card.heat_maps ? [say("limitHeat")] : []),
    say("limitPrivacy"),
  ];
  byId("limits").replaceChildren(...limits.map((text) => element("li", { textContent: text })));
  byId("examples").hidden = card.examples.length === 0;
  byId("examples").querySelector("ul").replaceChildren(...card.examples.map(exampleButton));
}

function exampleButton(address, index) {
  const picture = element("img", { src: address, alt: say("example", index + 1), className: "pixels" });
  const button = element("button", { type: "button", className: "example" }, picture);
  button.addEventListener("click", async () => {
    try {
      const response = await fetch(address);
      const name = address.split("/").pop();
      await classify([new File([await response.blob()], name)]);
    } catch {
      fail("unreachable");
    }
  });
  return element("li", {}, button);
}

// ---- asking the server

function clear() {
  shown?.forEach((each) => URL.revokeObjectURL(each.address));
  shown = null;
  byId("results").hidden = true;
}

function fail(key, ...values) {
  clear();
  byId("status").textContent = "";
  byId("error").textContent = say(key, ...values);
}

async function ask(address, options = {}) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch(address, { ...options, headers });
  if (response.status !== 401) return response;
  if (token) fail("wrongToken");
  token = await askForToken();
  return ask(address, options);
}

function askForToken() {
  const dialog = byId("token");
  const field = dialog.querySelector("input");
  field.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      dialog.close();
      resolve(field.value.trim());
    };
    dialog.oncancel = (event) => event.preventDefault(); // without a token nothing works
  });
}

async function classify(files) {
  byId("error").textContent = "";
  if (!card) return;
  if (files.length === 0 || !(await areFiles(files))) return fail("notImages");
  const size = files.reduce((sum, file) => sum + file.size, 0);
  if (files.length > card.max_images || size > card.max_megabytes * 2 ** 20) {
    return fail("tooLarge", card);
  }
  byId("status").textContent = say("working");
  byId("status").classList.remove("heard");
  const form = new FormData();
  for (const file of files) form.append("image", file, file.name || "image");
  try {
    const query = `topk=${TOP}&heat_map=${card.heat_maps}`;
    const response = await ask(`/predict?${query}`, { method: "POST", body: form });
    await take(response, files);
  } catch {
    fail("unreachable");
  }
}

// A folder looks like a file until it is read.
const areFiles = (files) =>
  Promise.all(files.map((file) => file.slice(0, 1).arrayBuffer())).then(() => true, () => false);

async function take(response, files) {
  const answer = await response.json();
  if (answer.images) {
    clear();
    shown = answer.images.map((image, i) => ({ ...image, address: URL.createObjectURL(files[i]) }));
    showAnswers(shown);
    byId("results").scrollIntoView({ block: "nearest" });
  } else if (response.status === 413) fail("tooLarge", card);
  else if (response.status === 429) fail("busy", response.headers.get("retry-after") ?? 1);
  else if (response.status === 504) fail("late");
  else if (response.status >= 500) fail("failed");
  else fail("notImages");
}

// ---- answers

function showAnswers(answers) {
  byId("results").hidden = false;
  byId("heat-toggle").hidden = !answers.some((each) => each.heat_map);
  byId("answers").replaceChildren(...answers.map(article));
  byId("status").textContent = answers.map(summary).join(" ");
  byId("status").classList.add("heard"); // the answers show it to those who see
}

function summary(answer) {
  if (answer.error) return say("unreadable", answer.image);
  const best = answer.predictions[0];
  const label = answer.none_of_these ? say("noneShort") : best.class;
  return `${answer.image}: ${label}, ${percent(best.probability)}.`;
}

function article(answer) {
  if (answer.error) {
    return element("article", {}, element("p", { className: "bad", textContent: say("unreadable", answer.image) }));
  }
  const told = element("div", {}, element("h3", { textContent: answer.image }));
  if (answer.none_of_these) {
    const text = say("none", percent(card.threshold));
    told.append(element("p", { className: "none", textContent: text }));
  }
  told.append(element("ol", { className: "bars" }, ...answer.predictions.map(bar)));
  return element("article", {}, picture(answer), told);
}

function bar(prediction) {
  const fill = element("span", { className: "fill" });
  fill.style.width = `${prediction.probability}%`;
  const track = element("span", { className: "track" }, fill);
  track.setAttribute("aria-hidden", "true");
  const value = element("span", { className: "value", textContent: percent(prediction.probability) });
  const name = element("span", { className: "class", textContent: prediction.class });
  return element("li", {}, name, " ", value, track);
}

function picture(answer) {
  const label = answer.predictions[0].class;
  const image = element("img", { src: answer.address, alt: answer.image });
  const frame = element("div", { className: "frame" }, image);
  image.onload = () => image.classList.toggle("pixels", image.naturalWidth < 128);
  image.onerror = () => frame.replaceChildren(element("p", { textContent: say("unshown") }));
  if (answer.heat_map) {
    const canvas = heatMap(answer.heat_map);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", say("heatAlt", answer.image, label));
    frame.append(canvas);
  }
  return frame;
}

// Orange, the stronger the less transparent, over the part of the image that the network sees.
function heatMap({ values, box: [left, top, right, bottom] }) {
  const canvas = element("canvas", { width: values[0].length, height: values.length, className: "heat" });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  values.flat().forEach((value, i) => pixels.data.set([255, 120, 0, 170 * value], 4 * i));
  context.putImageData(pixels, 0, 0);
  const share = (value) => `${100 * value}%`;
  Object.assign(canvas.style, {
    left: share(left), top: share(top), width: share(right - left), height: share(bottom - top),
  });
  return canvas;
}

// ---- ways in

function watchDrops() {
  const zone = byId("drop");
  let depth = 0;
  document.addEventListener("dragenter", () => zone.classList.toggle("over", ++depth > 0));
  document.addEventListener("dragleave", () => zone.classList.toggle("over", --depth > 0));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    zone.classList.remove("over");
    classify([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) classify([...event.clipboardData.files]);
  });
}

function watchChooser(id) {
  byId(id).addEventListener("change", (event) => {
    if (event.target.files.length) classify([...event.target.files]);
    event.target.value = "";
  });
}

async function photograph() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch { // no camera, no permission, or not a secure context: a phone offers its camera here
    byId("capture").click();
    return;
  }
  const dialog = byId("camera");
  const video = dialog.querySelector("video");
  video.srcObject = stream;
  dialog.onclose = () => stream.getTracks().forEach((track) => track.stop());
  byId("cancel").onclick = () => dialog.close();
  byId("shoot").onclick = () => {
    const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    dialog.close();
    canvas.toBlob((blob) => classify([new File([blob], "photo.png")]), "image/png");
  };
  dialog.showModal();
}

// ---- beginning

function remembered() {
  try {
    return localStorage.getItem("language");
  } catch {
    return null;
  }
}

language = remembered() ?? (navigator.language.startsWith("zh") ? "zh" : "en");
translate();
byId("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  try {
    localStorage.setItem("language", language);
  } catch { /* it is asked for again next time */ }
  translate();
});
byId("choose").addEventListener("click", () => byId("file").click());
byId("photograph").addEventListener("click", photograph);
byId("heat").addEventListener("change", (event) => {
  document.body.classList.toggle("no-heat", !event.target.checked);
});
watchChooser("file");
watchChooser("capture");
watchDrops();
try {
  card = await (await ask("/model")).json();
  describe();
} catch {
  fail("unreachable");
}
