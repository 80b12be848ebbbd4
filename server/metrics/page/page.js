// Draws status.json, and asks for it again every two seconds. Its fields are
// documented in docs/metrics.md. What stays the same is left alone, so that
// focus, scrolling and what is unfolded stay where they are.
'use strict';

const EVERY_MS = 2000;         // between two answers
const SECOND_MS = 700;         // from the first to the second: rates need two
const SLOWEST_MS = 30000;      // when there are none
const PATIENCE_MS = 8000;      // for one
const POINTS = 60;             // of a rate's curve, at most,
const FEWEST_POINTS = 15;      // and so much room there is from the start
const OPEN_UP_TO_MODELS = 3;   // with more, what is long begins folded

// --- Building the document ---------------------------------------------------

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}
const el = (tag, attributes = {}, ...children) =>
  build(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  build(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// --- Numbers in words --------------------------------------------------------

const NBSP = '\u00a0';  // a number and its unit stay on one line

function significant(value, digits = 3) {
  if (value === 0) return '0';
  const size = Math.floor(Math.log10(Math.abs(value))) + 1;
  return value.toLocaleString('en', {
    minimumFractionDigits: Math.max(0, Math.min(digits - size, 20)),
    maximumFractionDigits: Math.max(0, Math.min(digits - size, 20)),
  });
}
function scaled(value, units) {
  let i = 0;
  let size = Math.abs(value);
  while (size >= 999.5 && i + 1 < units.length) {
    size /= 1000;
    ++i;
  }
  const text = i === 0 ? size.toLocaleString('en') : significant(size);
  return `${value < 0 ? '−' : ''}${text}${units[i] === '' ? '' : NBSP}${units[i]}`;
}
const bytes = (value) => scaled(value, ['B', 'kB', 'MB', 'GB', 'TB']);
const exactBytes = (value) => `${value.toLocaleString('en')} bytes`;
const count = (value) => scaled(value, ['', 'thousand', 'million', 'billion']);
const percent = (ratio, digits = 3) =>
  `${ratio < 0 ? '−' : ''}${significant(Math.abs(ratio) * 100, digits)}${NBSP}%`;
const signed = (ratio) => (ratio < 0 ? percent(ratio) : `+${percent(ratio)}`);

function duration(seconds) {
  if (seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))}${NBSP}ms`;
  if (seconds < 60) return `${Number(significant(seconds, 2))}${NBSP}s`;
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = units.findIndex(([size]) => seconds >= size);
  const whole = Math.floor(seconds / units[first][0]);
  const rest = Math.floor((seconds % units[first][0]) / units[first + 1][0]);
  return `${whole}${NBSP}${units[first][1]}` +
    (rest > 0 ? ` ${rest}${NBSP}${units[first + 1][1]}` : '');
}
function ago(seconds) {
  if (seconds < 10) return 'just now';
  if (seconds < 60) return `${Math.floor(seconds / 10) * 10} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}
// A moment that keeps its "2 min ago" right: refreshTimes() does.
function moment(text) {
  return el('time', {datetime: text, title: new Date(text).toLocaleString()});
}
function refreshTimes(root, now) {
  for (const node of root.querySelectorAll('time')) {
    setText(node, ago((now - Date.parse(node.getAttribute('datetime'))) / 1000));
  }
}

const plural = (number, one, many = `${one}s`) =>
  `${number.toLocaleString('en')} ${number === 1 ? one : many}`;

const TASKS = {generate: 'generates text', detect_objects: 'finds objects in pictures'};
const STATES = {
  loading: 'loading', ready: 'serving', quantizing: 'serving, quantizing', unloading: 'ending'};
const STAGES = {
  reading: 'reading the checkpoint', waiting: 'waiting for memory', quantizing: 'packing weights',
  evaluating: 'measuring', swapping: 'swapping'};

// --- Small parts -------------------------------------------------------------

// A bar with its name and its value beside it.
function bar(name, kind, title = null) {
  const fill = el('span', {class: `fill ${kind}`});
  const value = el('dd', {class: 'value'});
  const label = el('dt', {}, name);
  const root = el('div', {class: 'bar', title}, label,
                  el('dd', {class: 'track', 'aria-hidden': 'true'}, fill), value);
  return {
    root,
    update(amount, whole, text, title) {
      fill.style.setProperty('width', `${whole > 0 ? Math.min(100, (100 * amount) / whole) : 0}%`);
      setText(value, text);
      setAttribute(value, 'title', title);
    },
  };
}

// A name and what it is now; hidden where there is nothing to say.
function fact(name, title = null) {
  const value = el('dd');
  const root = el('div', {class: 'fact', title}, el('dt', {}, name), value);
  return {
    root,
    update(text) {
      root.hidden = text === null;
      if (text !== null) setText(value, text);
    },
  };
}

// What to type. Its words break only if they have to, not at each hyphen.
const command = (text) => el('code', {class: 'take'},
  ...text.split(' ').flatMap((word, i) => [i === 0 ? '' : ' ', el('span', {}, word)]));

// The curve of a rate over the last minutes.
function curve(what) {
  const line = svg('polyline', {class: 'line', points: ''});
  const area = svg('polygon', {class: 'area', points: ''});
  const root = svg('svg', {class: 'curve', role: 'img', preserveAspectRatio: 'none',
                           focusable: 'false'}, area, line);
  return {
    root,
    update(values) {
      const most = Math.max(1e-9, ...values);
      const room = Math.max(FEWEST_POINTS, values.length);
      const points = values.map((value, i) =>
        `${room - values.length + i},${(23 - (21 * value) / most).toFixed(2)}`);
      setAttribute(root, 'viewBox', `0 0 ${room - 1} 24`);
      setAttribute(line, 'points', points.join(' '));
      setAttribute(area, 'points', points.length === 0 ? '' :
        `${room - values.length},24 ${points.join(' ')} ${room - 1},24`);
      setAttribute(root, 'aria-label', values.length === 0 ? `${what}: no figures yet` :
        `${what} of the last minutes: now ${significant(values[values.length - 1])}, ` +
        `most ${significant(Math.max(...values))}`);
    },
  };
}

// A part that is drawn anew when what it shows has changed. Moments alone do not
// count: they are told to the millisecond, and may be one more or less.
function drawnAnew(root, draw) {
  let shown = null;
  return (data, ...more) => {
    const now = JSON.stringify(data, (key, value) =>
      (key === 'since' || key === 'time' ? undefined : value));
    if (now === shown) return;
    shown = now;
    root.replaceChildren(...draw(data, ...more).filter((node) => node !== null));
  };
}

// Large tables scroll by themselves, by keyboard too. `head` has a text and a
// class for each column. The rows of one that stacks are blocks on small screens;
// the roles say that it is a table all the same.
function table(caption, head, rows, stacks = false) {
  const row = (cells) => el('tr', {role: 'row'}, ...cells);
  return el('div', {class: 'scroll', role: 'region', 'aria-label': caption, tabindex: '0'},
    el('table', {role: 'table', class: stacks ? 'stacks' : null},
      el('caption', {class: 'unseen'}, caption),
      el('thead', {role: 'rowgroup'}, row(head.map(([text, kind]) =>
        el('th', {role: 'columnheader', scope: 'col', class: kind}, text)))),
      el('tbody', {role: 'rowgroup'}, ...rows.map((cells) => row(cells.map((cell, i) =>
        el(i === 0 ? 'th' : 'td', {
          role: i === 0 ? 'rowheader' : 'cell', scope: i === 0 ? 'row' : null, class: head[i][1],
          'data-label': head[i][0],
        }, ...(Array.isArray(cell) ? cell : [cell]))))))));
}

// --- Quality -----------------------------------------------------------------

// As [name, text, explanation]; the first is the one to know.
function qualityFacts(quality) {
  if (quality === null) return [];
  const facts = [];
  const add = (name, value, text, title) => {
    if (value !== null) facts.push([name, text(value), title]);
  };
  if (quality.task === 'generate') {
    add('Perplexity', quality.perplexity, (value) => significant(value, 4),
        'How well it predicts the text that it was measured on; lower is better');
    add('over its floats', quality.float_perplexity,
        (value) => signed(quality.perplexity / value - 1),
        'How much higher its perplexity is than that of the checkpoint\'s own floats');
    add('KL divergence', quality.kl_divergence_nats, (value) => `${significant(value)} nats`,
        'How far its next tokens are from those of the floats; 0 is the same');
    add('Top-1 agreement', quality.top1_agreement, (value) => percent(value),
        'How often both hold the same token most likely');
    add('Bits a byte', quality.bits_per_byte, (value) => significant(value),
        'Compares models with different tokenizers');
    add('Measured on', quality.counted_tokens, (value) => plural(value, 'token'), null);
  } else {
    add('Average precision', quality.coco_ap, (value) => significant(value),
        'COCO\'s, of boxes, at 0.50 to 0.95');
    add('Found again', quality.float_detections > 0 ? quality.matched : null,
        (value) => `${value} of ${quality.float_detections}`,
        'Of the objects that the checkpoint\'s own floats find');
    add('Boxes moved', quality.box_drift_pixels, (value) => `${significant(value)} px`,
        'The side that moved most, in the mean');
    add('Scores moved', quality.score_drift, (value) => significant(value), 'In the mean');
    add('Measured on', quality.pictures, (value) => plural(value, 'picture'), null);
  }
  return facts;
}
function qualityInShort(quality) {
  const facts = qualityFacts(quality);
  if (facts.length === 0) return 'not measured';
  const inShort = facts.slice(0, 2).map(([name, text]) => `${text} ${name.toLowerCase()}`);
  return quality.task === 'generate' && quality.float_perplexity !== null ?
    `${facts[0][1]} perplexity, ${facts[1][1]}` : inShort[0];
}

// --- What the layers lost ----------------------------------------------------

const shortName = (name) => name.replace(/\.weight$/, '');

// Layers of one kind, over the blocks of the network: "attn.out_proj" of
// "transformer.h.0.attn.out_proj", "transformer.h.1.attn.out_proj", ...
function layerRows(layers) {
  const rows = new Map();
  for (const layer of layers) {
    const parts = shortName(layer.name).split('.');
    const at = parts.findIndex((part) => /^\d+$/.test(part));
    const key = parts.map((part, i) => (i === at ? '*' : part)).join('.');
    if (!rows.has(key)) rows.set(key, {key, blocks: at >= 0, layers: []});
    rows.get(key).layers.push(layer);
  }
  const all = [...rows.values()];
  for (const row of all) row.label = row.key;
  // What says nothing goes, as long as labels stay apart.
  for (const word of ['*', 'model', 'transformer', 'layers', 'h', 'blocks',
                      'conv_encoder', 'gpt_neox']) {
    const shorter = all.map((row) =>
      row.label.split('.').filter((part) => part !== word).join('.'));
    if (new Set(shorter).size < all.length || shorter.includes('')) continue;
    all.forEach((row, i) => { row.label = shorter[i]; });
  }
  return all;
}

// With places to break a line at.
const breakable = (name) =>
  name.split('.').flatMap((part, i) => (i === 0 ? [part] : ['.', el('wbr'), part]));

const worst = (layers) => layers.reduce((most, layer) =>
  (layer.relative_l2_error > most.relative_l2_error ? layer : most));

function layerChart(report) {
  const layers = report.layers;
  const rows = layerRows(layers);
  const methods = [...new Set(layers.map((layer) => layer.method))];
  const most = Math.max(...layers.map((layer) =>
    Math.max(layer.relative_l2_error, layer.relative_l2_output_error ?? 0)));
  const least = Math.min(...rows.map((row) => worst(row.layers).relative_l2_error));
  // A mixture's errors are far apart.
  const rooted = least < most / 8;
  const height = (error) => 30 * (rooted ? Math.sqrt(error / most) : error / most);
  const slots = Math.max(8, ...rows.map((row) => row.layers.length));
  const outputs = layers.some((layer) => layer.relative_l2_output_error !== null);

  const drawRow = (row) => {
    const bars = row.layers.flatMap((layer, i) => {
      const high = Math.max(0.6, height(layer.relative_l2_error));
      const output = layer.relative_l2_output_error;
      return [
        svg('g', {},
          svg('title', {}, `${shortName(layer.name)}: ${percent(layer.relative_l2_error)}` +
            (output === null ? '' : `, of its output ${percent(output)}`) + `, ${layer.method}`),
          svg('rect', {class: 'hit', x: i * 10, y: 0, width: 10, height: 32}),
          svg('rect', {class: `error m${methods.indexOf(layer.method) % 5}`, x: i * 10 + 1,
                       y: 32 - high, width: 8, height: high}),
          output === null ? null :
            svg('rect', {class: 'output', x: i * 10, y: 31 - height(output), width: 10,
                         height: 1.6})),
      ];
    });
    const top = worst(row.layers);
    const blocks = row.layers.length > 1 ? `${row.layers.length} layers, ` : '';
    return el('div', {class: 'layers'},
      el('div', {class: 'label', title: row.key}, ...breakable(row.label)),
      svg('svg', {role: 'img', viewBox: `0 0 ${slots * 10} 32`, preserveAspectRatio: 'none',
                  focusable: 'false',
                  'aria-label': `${row.label}: ${blocks}the worst loses ` +
                                `${percent(top.relative_l2_error)} (${shortName(top.name)})`},
        ...bars),
      el('div', {class: 'most'}, percent(top.relative_l2_error)));
  };

  const legend = el('ul', {class: 'legend'},
    ...methods.slice(0, 12).map((method, i) =>
      el('li', {}, el('span', {class: `key m${i % 5}`, 'aria-hidden': 'true'}), method)),
    outputs ? el('li', {}, el('span', {class: 'key output', 'aria-hidden': 'true'}),
                 'of the layer\'s output') : null);

  const head = [['Layer', 'wide'], ['Method', ''], ['Error', 'number'],
                ...(outputs ? [['Of its output', 'number']] : []),
                ['Before', 'number'], ['After', 'number']];
  const fold = el('details', {}, el('summary', {}, 'The same as a table'));
  fold.addEventListener('toggle', () => {
    if (!fold.open || fold.childElementCount > 1) return;
    fold.append(table(`Error of each layer of ${report.model}`, head, layers.map((layer) => [
      breakable(shortName(layer.name)), layer.method, percent(layer.relative_l2_error),
      ...(outputs ? [layer.relative_l2_output_error === null ? '–' :
        percent(layer.relative_l2_output_error)] : []),
      bytes(layer.bytes_before), bytes(layer.bytes_after)]), true));
  });
  return el('figure', {class: 'errors'},
    el('figcaption', {},
      el('strong', {}, 'What each layer lost'),
      el('span', {}, ` – relative error of its weights; a bar is a layer, from the first block ` +
        `to the last, and the highest is ${percent(most)}. At the right: the worst of the row.` +
        (rooted ? ' Heights grow with the square root, so that small errors are seen too.' : '') +
        (report.layers_left_out > 0 ?
          ` ${plural(report.layers_left_out, 'layer')} that lost less are left out.` : ''))),
    legend, el('div', {class: rows.length > 8 ? 'rows many' : 'rows'}, ...rows.map(drawRow)), fold);
}

// --- One model ---------------------------------------------------------------

const quoted = (text) => `'${text.replaceAll('\'', '\'\\\'\'')}'`;

// A plan of one method is as short as its method.
const planOf = (item) => el('code', {class: 'plan'}, item.plan);

function drawVersions(model) {
  const versions = [...model.versions].reverse();
  if (versions.length === 0) return [];
  const biggest = Math.max(model.checkpoint_bytes,
                           ...versions.map((version) => version.stored_bytes));
  const rows = versions.map((version, i) => {
    const fill = el('span', {class: 'fill after'});
    fill.style.setProperty('width', `${(100 * version.stored_bytes) / biggest}%`);
    return [
      [`${version.version}`, i === 0 ? el('span', {class: 'now'}, 'serves') : null]
        .filter((node) => node !== null),
      [moment(version.since)],
      [planOf(version)],
      [el('span', {class: 'small track', 'aria-hidden': 'true'}, fill),
       el('span', {title: exactBytes(version.stored_bytes)}, bytes(version.stored_bytes))],
      [el('span', {title: exactBytes(version.resident_bytes)}, bytes(version.resident_bytes))],
      duration(version.seconds),
      qualityInShort(version.quality),
    ];
  });
  const left = model.version - versions.length;
  const nodes = [table(`Versions of ${model.name}, the newest first`,
    [['Version', ''], ['Since', ''], ['Plan', 'wide'], ['Stored', 'number'],
     ['In memory', 'number'], ['Made in', 'number'], ['Quality', 'middle']], rows, true)];
  if (left > 0) {
    nodes.push(el('p', {class: 'note'}, `${plural(left, 'older version')} not shown.`));
  }
  if (model.way_back !== null) {
    const {version, plan} = model.way_back;
    nodes.push(el('p', {class: 'note'}, `The way back to version ${version}: `,
      plan.endsWith('…') ? 'its plan is too long for this page.' :
        command(`ounce quantize ${model.name} --plan ${quoted(plan)}`)));
  }
  return nodes;
}

function drawReport(report, model) {
  if (report === null) {
    return [el('p', {class: 'note'}, 'Not quantized since it was loaded. This makes it smaller ' +
      'while it serves: ', command(`ounce quantize ${model.name} linear`))];
  }
  const outcomes = {
    serves: `Version ${report.version} was made`,
    dry_run: 'A dry run: nothing was changed',
    refused: 'Refused: what served before serves on',
  };
  const saved = 1 - report.stored_bytes_after / report.stored_bytes_before;
  return [
    el('p', {class: `outcome ${report.outcome}`},
      el('strong', {}, outcomes[report.outcome] ?? report.outcome), ', ', moment(report.time),
      `, in ${duration(report.seconds)}: ${report.method_before} → ${report.method}, ` +
      `${bytes(report.stored_bytes_before)} → ${bytes(report.stored_bytes_after)} ` +
      `(${saved < 0 ? `${percent(-saved)} more` : `${percent(saved)} less`}), in memory ` +
      `${bytes(report.resident_bytes_before)} → ${bytes(report.resident_bytes_after)}.`),
    report.refusal === null ? null : el('p', {class: 'why'}, report.refusal),
    report.layers.length === 0 ?
      el('p', {class: 'note'}, 'No weight was rounded: every layer is as in the checkpoint.') :
      layerChart(report),
  ];
}

function makeCard(name, openAtFirst) {
  const id = `model-${name}`;
  const state = el('span', {class: 'state'});
  const about = el('p', {class: 'about'});
  const title = el('h2', {id: `${id}-name`}, name);

  const saved = el('p', {class: 'big'});
  const barsOf = {
    before: bar('As published', 'before'),
    after: bar('Stored now', 'after'),
    memory: bar('In memory', 'memory'),
  };
  const weights = el('div', {}, el('h3', {}, 'Weights'), saved,
    el('dl', {class: 'bars'}, barsOf.before.root, barsOf.after.root, barsOf.memory.root));

  const rate = el('p', {class: 'big'});
  const rateCurve = curve('Rate');
  const facts = {
    running: fact('Running', 'Requests that have begun'),
    queued: fact('Queued', 'Requests that wait'),
    done: fact('Answered', 'Requests that ended well since the model was loaded'),
    failed: fact('Not answered', 'Refused, cancelled, too late or failed'),
  };
  const kv = bar('KV cache', 'memory');
  const kept = bar('Kept prompts', 'before',
                   'For those that begin alike, until anything needs the memory');
  const kvBars = el('dl', {class: 'bars'}, kv.root, kept.root);
  const load = el('div', {}, el('h3', {}, 'Load'), rate, rateCurve.root,
    el('dl', {class: 'facts'}, ...Object.values(facts).map((each) => each.root)), kvBars);

  const qualityBody = el('div');
  const quality = el('div', {}, el('h3', {}, 'Quality'), qualityBody);
  const showQuality = drawnAnew(qualityBody, ({quality: found, version, tasks}) => {
    const all = qualityFacts(found);
    if (all.length === 0) {
      return [el('p', {class: 'note'}, 'Not measured yet: ',
        command(tasks.includes('generate') ?
          `ounce evaluate ${name} --text FILE --floats` :
          `ounce evaluate ${name} --pictures DIR`))];
    }
    const [[first, text, explanation], ...others] = all;
    return [
      el('p', {class: 'big', title: explanation}, text, el('small', {}, ` ${first.toLowerCase()}`)),
      el('dl', {class: 'facts'}, ...others.map(([label, value, why]) =>
        el('div', {class: 'fact', title: why}, el('dt', {}, label), el('dd', {}, value)))),
      found.version === version ? null :
        el('p', {class: 'note'}, `Of version ${found.version}.`),
    ];
  });

  const versionsBody = el('div');
  const reportBody = el('div');
  const fold = (text, body) => el('details', {open: openAtFirst ? '' : null},
    el('summary', {}, el('h3', {}, text)), body);
  const versions = fold('Versions', versionsBody);
  const report = fold('Last quantization', reportBody);
  const showVersions = drawnAnew(versionsBody, drawVersions);
  const showReport = drawnAnew(reportBody, drawReport);

  const body = el('div', {class: 'body'}, el('div', {class: 'parts'}, weights, load, quality),
                  versions, report);
  const root = el('article', {class: 'model', id, tabindex: '-1', 'aria-labelledby': `${id}-name`},
    el('header', {}, title, state, about), body);

  return {
    root,
    update(model, rates) {
      const stage = model.stage === null ? '' : `: ${STAGES[model.stage] ?? model.stage}`;
      setText(state, `${STATES[model.state] ?? model.state}${stage}`);
      setAttribute(state, 'class', `state ${model.state}`);
      body.hidden = model.version === undefined;
      if (body.hidden) {
        setText(about, 'Its files are being read.');
        return;
      }
      setText(about, [
        `${model.architecture}, ${count(model.parameters)} parameters`,
        ...model.tasks.map((task) => TASKS[task] ?? task),
        `version ${model.version}: ${model.method}`,
      ].join(' · '));

      const ratio = model.saved_bytes / model.checkpoint_bytes;
      saved.replaceChildren(...(model.saved_bytes === 0 ?
        [bytes(model.stored_bytes), el('small', {}, ' as published')] :
        [percent(Math.abs(ratio)), el('small', {}, ratio > 0 ? ' saved' : ' more')]));
      const most = Math.max(model.checkpoint_bytes, model.stored_bytes, model.resident_bytes);
      for (const [key, amount] of [['before', model.checkpoint_bytes],
                                   ['after', model.stored_bytes],
                                   ['memory', model.resident_bytes]]) {
        barsOf[key].update(amount, most, bytes(amount), exactBytes(amount));
      }

      const unit = model.tasks.includes('generate') ? 'tokens\u00a0/\u00a0s' : 'pictures\u00a0/\u00a0s';
      const now = rates.now();
      rate.replaceChildren(now === null ? '–' : significant(now), el('small', {}, ` ${unit}`));
      rateCurve.update(rates.points());
      facts.running.update(model.running.toLocaleString('en'));
      facts.queued.update(model.queued.toLocaleString('en'));
      const ended = endedRequests(model);
      facts.done.update(ended.done.toLocaleString('en'));
      facts.failed.update(ended.failed.toLocaleString('en'));
      kvBars.hidden = model.kv_cache_capacity_bytes === 0;
      kv.update(model.kv_cache_used_bytes, model.kv_cache_capacity_bytes,
                `${bytes(model.kv_cache_used_bytes)} of ${bytes(model.kv_cache_capacity_bytes)}`,
                exactBytes(model.kv_cache_used_bytes));
      kept.root.hidden = model.kv_cache_cached_bytes === 0;
      kept.update(model.kv_cache_cached_bytes, model.kv_cache_capacity_bytes,
                  bytes(model.kv_cache_cached_bytes), exactBytes(model.kv_cache_cached_bytes));
      showQuality({quality: model.quality, version: model.version, tasks: model.tasks});
      showVersions({name: model.name, version: model.version, versions: model.versions,
                    way_back: model.way_back, checkpoint_bytes: model.checkpoint_bytes});
      showReport(model.report, model);
    },
  };
}

function endedRequests(model) {
  const well = ['eos', 'length', 'stop', 'done'];
  let done = 0;
  let failed = 0;
  for (const [outcome, number] of Object.entries(model.requests_total)) {
    if (well.includes(outcome)) done += number; else failed += number;
  }
  return {done, failed};
}

// --- Rates -------------------------------------------------------------------

// Of a total that only grows, as it was at each answer.
function makeRates() {
  let samples = [];
  const between = (from, to) => ((to.total - from.total) * 1000) / (to.time - from.time);
  return {
    add(time, total) {
      const last = samples[samples.length - 1];
      if (last !== undefined && time <= last.time) return;
      if (last !== undefined && total < last.total) samples = [];  // loaded anew
      samples.push({time, total});
      if (samples.length > POINTS + 1) samples.shift();
    },
    // Over the last two answers or so; null while there is one.
    now() {
      const last = samples.length - 1;
      return last < 1 ? null : between(samples[Math.max(0, last - 2)], samples[last]);
    },
    points() {
      return samples.slice(1).map((sample, i) => between(samples[i], sample));
    },
  };
}

// --- The page ----------------------------------------------------------------

function tile(name) {
  const value = el('p', {class: 'big'});
  const note = el('p', {class: 'note'});
  const root = el('section', {class: 'tile'}, el('h2', {}, name), value, note);
  return {
    root,
    update(text, unit, more) {
      value.replaceChildren(text, el('small', {}, unit === '' ? '' : ` ${unit}`));
      setText(note, more);
    },
  };
}

function makePage(main) {
  const tiles = {
    saved: tile('Saved'),
    rate: tile('Throughput'),
    requests: tile('Requests'),
    memory: tile('Memory'),
  };
  const memoryBar = el('span', {class: 'fill memory'});
  tiles.memory.root.append(el('div', {class: 'track', 'aria-hidden': 'true'}, memoryBar));
  const summary = el('div', {class: 'tiles'}, ...Object.values(tiles).map((each) => each.root));
  const overview = el('nav', {'aria-label': 'Models', class: 'overview'});
  const cards = el('div', {class: 'cards'});
  const empty = el('div', {class: 'empty'},
    el('h2', {}, 'No model is served'),
    el('p', {}, 'Load one while the server runs: ',
      command('ounce load NAME PATH')),
    el('p', {}, 'PATH is a folder as Hugging Face has them, or org/name in its cache.'));
  const more = el('p', {class: 'note'});
  main.append(summary, overview, empty, cards, more);

  const shown = new Map();  // cards by name
  const rates = new Map();  // by name

  function drawOverview(rows) {
    return [el('ul', {}, ...rows.map(({name, method, state, before, after}) => {
      const fill = el('span', {class: 'fill after'});
      fill.style.setProperty('width', `${before > 0 ? Math.min(100, (100 * after) / before) : 0}%`);
      return el('li', {}, el('a', {href: `#model-${name}`},
        el('span', {class: 'name'}, name),
        el('span', {class: 'method', title: method}, before === 0 ? state : method),
        el('span', {class: 'track', 'aria-hidden': 'true'}, fill),
        el('span', {class: 'number'}, before === 0 ? '' : after > before ?
          `${percent(after / before - 1)} more` : after === before ? 'as published' :
          `${percent(1 - after / before)} saved`)));
    }))];
  }
  const showOverview = drawnAnew(overview, drawOverview);

  return (status) => {
    const now = Date.parse(status.time);
    const models = status.models;
    const loaded = models.filter((model) => model.version !== undefined);

    for (const [name, card] of shown) {
      if (models.some((model) => model.name === name)) continue;
      card.root.remove();
      shown.delete(name);
      rates.delete(name);
    }
    let tokens = null;
    let pictures = null;
    models.forEach((model, i) => {
      if (!shown.has(model.name)) {
        shown.set(model.name, makeCard(model.name, models.length <= OPEN_UP_TO_MODELS));
        rates.set(model.name, makeRates());
      }
      const card = shown.get(model.name);
      if (cards.children[i] !== card.root) cards.insertBefore(card.root, cards.children[i] ?? null);
      const rate = rates.get(model.name);
      if (model.version !== undefined) {
        const generates = model.tasks.includes('generate');
        rate.add(now, generates ? model.generated_tokens_total : endedRequests(model).done);
        if (generates) tokens = (tokens ?? 0) + (rate.now() ?? 0);
        else pictures = (pictures ?? 0) + (rate.now() ?? 0);
      }
      card.update(model, rate);
    });

    const sum = (field) => loaded.reduce((total, model) => total + model[field], 0);
    const before = sum('checkpoint_bytes');
    const saved = sum('saved_bytes');
    tiles.saved.update(before === 0 ? '–' : bytes(saved), '', before === 0 ? 'no weights' :
      `${percent(saved / before)} of ${bytes(before)} published, ${plural(loaded.length, 'model')}`);
    if (loaded.length === 0) {
      tiles.rate.update('–', '', 'no model');
    } else if (pictures === null || tokens !== null) {
      tiles.rate.update(significant(tokens ?? 0), 'tokens\u00a0/\u00a0s',
        pictures === null ? 'all models together' : `and ${significant(pictures)} pictures\u00a0/\u00a0s`);
    } else {
      tiles.rate.update(significant(pictures), 'pictures\u00a0/\u00a0s', 'all models together');
    }
    const queued = sum('queued');
    tiles.requests.update(sum('running').toLocaleString('en'), 'running',
      `${queued.toLocaleString('en')} queued`);
    const {resident_bytes: resident, limit_bytes: limit, free_bytes: free} = status.memory;
    tiles.memory.update(bytes(resident), '',
      `resident; ${bytes(Math.max(0, limit - free))} of ${bytes(limit)} set aside or used`);
    memoryBar.style.setProperty('width', `${Math.min(100, (100 * (limit - free)) / limit)}%`);

    overview.hidden = models.length < 2;
    showOverview(models.map((model) => ({
      name: model.name, method: model.method ?? '', state: STATES[model.state] ?? model.state,
      before: model.checkpoint_bytes ?? 0, after: model.stored_bytes ?? 0})));
    empty.hidden = models.length > 0;
    more.hidden = status.models_left_out === 0;
    setText(more, `${plural(status.models_left_out, 'further model')} not shown: ounce models.`);

    const server = status.server;
    setText(document.getElementById('about'),
      `${server.version} · ${server.instruction_set} · ${plural(server.threads, 'thread')} · up ` +
      duration(Math.max(1, server.uptime_seconds)));
    document.title = `Ounce: ${plural(models.length + status.models_left_out, 'model')}` +
      (saved > 0 ? `, ${percent(saved / before)} saved` : '');
    refreshTimes(main, now);
  };
}

function start() {
  const main = document.getElementById('main');
  const link = document.getElementById('link');
  const show = makePage(main);
  const PHASES = {starting: 'Starting', serving: 'Live', stopping: 'Stopping'};
  let answers = 0;
  let failures = 0;
  let timer = null;
  let asking = false;
  main.hidden = true;
  setText(link, 'Asking…');

  async function ask() {
    clearTimeout(timer);
    if (document.hidden || asking) return;  // visibilitychange asks again
    asking = true;
    const patience = new AbortController();
    const bell = setTimeout(() => patience.abort(), PATIENCE_MS);
    try {
      const reply = await fetch('status.json', {cache: 'no-store', signal: patience.signal});
      if (!reply.ok) throw new Error(`the server says ${reply.status}`);
      const status = await reply.json();
      if (status.schema !== 1) {
        throw new Error('the server is of another version: load the page again');
      }
      main.hidden = false;
      show(status);
      ++answers;
      failures = 0;
      const {phase, not_ready: reasons} = status.server;
      const unready = phase === 'serving' && reasons.length > 0;
      setText(link, unready ? `Not ready: ${reasons.join('; ')}` : PHASES[phase] ?? phase);
      setAttribute(link, 'class', `link ${unready ? 'unready' : phase}`);
      document.body.classList.remove('stale');
    } catch (error) {
      ++failures;
      if (failures === 1) console.warn(error);
      setText(link, 'No answer; trying again');
      setAttribute(link, 'class', 'link lost');
      document.body.classList.add('stale');
    } finally {
      clearTimeout(bell);
      asking = false;
    }
    timer = setTimeout(ask, answers === 1 ? SECOND_MS : failures === 0 ? EVERY_MS :
      Math.min(SLOWEST_MS, EVERY_MS * 2 ** Math.min(failures, 10)));
  }
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) ask();
  });
  ask();
}

start();
