// The browser of examples: reads each task's data block, shows a list, opens an entry on demand.
// Every text of a model is put in as text, never as markup.
"use strict";

(() => {
  const PAGE = 50; // entries shown at once
  const SVG = "http://www.w3.org/2000/svg";

  const node = (name, className, ...children) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    element.append(...children);
    return element;
  };

  const textBlock = (title, text) => {
    const pre = node("pre", "", text);
    pre.tabIndex = 0;
    pre.dir = "auto";
    return node("section", "text", node("h4", "", title), pre);
  };

  const factList = (facts) =>
    node(
      "dl",
      "facts",
      ...facts.map(([name, text]) => node("div", "", node("dt", "", name), node("dd", "", text))),
    );

  const bar = (share) => {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "bar");
    svg.setAttribute("aria-hidden", "true");
    if (share !== null) {
      const rect = document.createElementNS(SVG, "rect");
      rect.setAttribute("width", `${(100 * share).toFixed(2)}%`);
      rect.setAttribute("height", "100%");
      svg.append(rect);
    }
    return svg;
  };

  const heading = (text, className) => {
    const cell = node("th", className, text);
    cell.scope = "col";
    return cell;
  };

  // A table of things with a share of one; ``columns`` are [heading, key] of the numbers.
  const shareTable = (title, rows, columns, tags) => {
    const body = rows.map((row) => {
      const name = node("th", "", row.text);
      name.scope = "row";
      name.dir = "auto";
      const own = tags.filter(([key]) => row[key]);
      for (const [, text] of own) name.append(" ", node("span", "tag", text));
      return node(
        "tr",
        own.map(([key]) => key).join(" "),
        name,
        node("td", "plot", bar(row.share)),
        ...columns.map(([, key]) => node("td", "number", row[key])),
      );
    });
    const head = node(
      "tr",
      "",
      heading(title, ""),
      heading(node("span", "unseen", "Share"), "plot"),
      ...columns.map(([text]) => heading(text, "number")),
    );
    return node("table", "choices", node("thead", "", head), node("tbody", "", ...body));
  };

  const choiceTable = (choices) =>
    shareTable(
      "Choice",
      choices,
      [["Probability", "percent"], ["Log-probability", "logprob"]],
      [["gold", "target"], ["picked", "picked"]],
    );

  const opinion = (view) => {
    const who = node("span", "who", view.name);
    who.dir = "auto";
    const said = node("p", "said", who, " ", node("strong", "", view.value));
    if (view.doubt) said.append(" ", node("span", "badge doubtful", view.doubt));
    const box = node("div", "opinion", said);
    if (view.problem) {
      const problem = node("p", "problem", view.problem);
      problem.dir = "auto";
      box.append(problem);
    }
    if (view.labels.length) {
      const columns = [["Probability", "percent"]];
      box.append(shareTable("Label", view.labels, columns, [["picked", "likeliest"]]));
    }
    if (view.facts.length) box.append(factList(view.facts));
    if (view.reason) box.append(textBlock("Reasons", view.reason));
    if (view.members.length) {
      const title = `The ${view.members.length} judges of the panel`;
      const members = view.members.map(opinion);
      box.append(node("details", "panel", node("summary", "", title), ...members));
    }
    return box;
  };

  const prompt = (data, transcript) =>
    transcript.prompt.map((part) => data.parts[part]).join("\n\n");

  const transcriptOf = (data, example) => {
    const box = node("div", "transcript");
    const transcript = example.transcript;
    if (!transcript) {
      box.append(
        node("p", "notice", "This transcript is left out to keep the page small; " +
          "it is in examples.parquet beside the run."),
      );
      return box;
    }
    if (transcript.error) box.append(textBlock("Error", transcript.error));
    box.append(textBlock("Prompt", prompt(data, transcript)));
    const answers = node("div", "answers");
    if (transcript.targets.length) answers.append(textBlock("Target", transcript.targets.join("\n")));
    if (transcript.response !== null) answers.append(textBlock("Response", transcript.response));
    if (transcript.extracted !== null) {
      answers.append(textBlock("Extracted answer", transcript.extracted));
    }
    box.append(answers);
    if (transcript.choices.length) box.append(choiceTable(transcript.choices));
    if (transcript.judged) {
      const views = transcript.judged.map(opinion);
      box.append(node("section", "opinions", node("h4", "", "Judged"), ...views));
    }
    box.append(factList(transcript.facts));
    return box;
  };

  const entry = (data, example) => {
    const id = node("span", "id", example.id);
    const words = node("span", "words", example.words);
    id.dir = words.dir = "auto";
    const mark = node("span", "mark");
    mark.setAttribute("aria-hidden", "true");
    const details = node(
      "details",
      `example ${example.verdict}`,
      node(
        "summary",
        "",
        mark,
        node("span", "verdict", example.verdict),
        id,
        node("span", "score", example.score),
        words,
      ),
    );
    details.addEventListener("toggle", () => {
      if (!details.open || details.children.length > 1) return;
      const box = transcriptOf(data, example);
      details.append(box);
      // The question itself stands at the end of a few-shot prompt.
      for (const pre of box.querySelectorAll("pre")) pre.scrollTop = pre.scrollHeight;
    });
    return node("li", "", details);
  };

  const wordsOf = (view) => [view.reason, view.problem, ...view.members.flatMap(wordsOf)];

  const searchable = (data, example) => {
    const t = example.transcript;
    const texts = t
      ? [prompt(data, t), t.response ?? "", t.extracted ?? "", t.error, ...t.targets,
        ...(t.judged ?? []).flatMap(wordsOf)]
      : [example.words];
    return [example.id, ...texts].join("\n").toLowerCase();
  };

  // Undefined numbers come last in every order; ties keep the order of the record.
  const by = (key, sign) => (a, b) =>
    a[key] === null || b[key] === null
      ? (a[key] === null) - (b[key] === null)
      : sign * (a[key] - b[key]);

  const ORDERS = { low: by("value", 1), high: by("value", -1), slow: by("latency", -1) };

  const start = (root) => {
    const data = JSON.parse(root.querySelector("script").textContent);
    const tools = root.querySelector(".tools");
    const list = root.querySelector("ol");
    const more = root.querySelector(".next");
    const [text, verdict, order] = tools.querySelectorAll("input, select");
    const texts = new Map();
    let found = data.examples;

    const matches = (example, wanted) => {
      if (!texts.has(example)) texts.set(example, searchable(data, example));
      return texts.get(example).includes(wanted);
    };

    const showMore = () => {
      const from = list.children.length;
      list.append(...found.slice(from, from + PAGE).map((example) => entry(data, example)));
      const shown = list.children.length;
      more.hidden = shown >= found.length;
      tools.querySelector(".count").textContent =
        shown < found.length
          ? `${shown.toLocaleString("en")} of ${found.length.toLocaleString("en")} shown`
          : `${found.length.toLocaleString("en")} shown`;
      return list.children[from];
    };

    const refresh = () => {
      const wanted = text.value.trim().toLowerCase();
      found = data.examples.filter(
        (example) =>
          (!verdict.value || example.verdict === verdict.value) &&
          (!wanted || matches(example, wanted)),
      );
      if (ORDERS[order.value]) found = [...found].sort(ORDERS[order.value]);
      list.replaceChildren();
      showMore();
    };

    let waiting = 0;
    text.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(refresh, 120);
    });
    verdict.addEventListener("change", refresh);
    order.addEventListener("change", refresh);
    more.addEventListener("click", () => showMore()?.querySelector("summary").focus());
    tools.hidden = list.hidden = false;
    refresh();
  };

  for (const root of document.querySelectorAll(".examples")) {
    if (root.querySelector("script")) start(root);
  }
})();
