// Workers, by group: what each is for, whether it lives, what it does now and how full it is.
import {html, useState} from '../vendor/preact.js';
import {api, useData, useNow} from './data.js';
import {bytes, coarse, number, percent, plural, short, visible} from './format.js';
import {inPath} from './router.js';
import {Empty, Panel, Shown, State, Time} from './parts.js';

const fits = (each, words) => words.toLowerCase().split(/\s+/).every((word) => `${each.name} ${each.group ?? ''} ${each.script ?? ''} ${each.host} ${each.tags.join(' ')}`.toLowerCase().includes(word));
const STRETCHES = ['15s', '5m', '30m'];

export function Workers() {
  const [words, setWords] = useState('');
  const it = useData((signal) => api('/workers', {signal}), [], {every: 2000});
  return html`<div class="head"><h1>Workers</h1><form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}><label><span>Find</span>
      <input type="search" data-search placeholder="name, group, script, tag or host" value=${words} onInput=${(event) => setWords(event.target.value)} /></label></form></div>
    <${Shown} it=${it} what="Looking for workers">${({workers}) => {
      const shown = workers.filter((each) => fits(each, words));
      const groups = Map.groupBy ? [...Map.groupBy(shown, (each) => each.group ?? '')] : Object.entries(shown.reduce((all, each) => ({...all, [each.group ?? '']: [...(all[each.group ?? ''] ?? []), each]}), {}));
      if (!workers.length) return html`<${Empty} title="No worker is alive">Jobs wait until one is: start it with <code>hotpath dedicate NAME</code>.<//>`;
      if (!shown.length) return html`<${Empty} title=${`None of ${plural(workers.length, 'worker')} fits “${visible(words)}”`} />`;
      return groups.sort(([a], [b]) => a.localeCompare(b)).map(([name, members]) => html`<${Group} key=${name} name=${name} members=${members} />`);
    }}<//>`;
}

function Group({name, members}) {
  const now = useNow();
  const lost = members.filter((each) => each.state === 'lost').length;
  return html`<${Panel} title=${name ? visible(name) : 'No group'} aside=${html`<span class="muted">${plural(members.length, 'worker')}, ${number(members.reduce((sum, each) => sum + each.running, 0))} running${lost ? html`, <b class="bad">${lost} lost</b>` : ''}</span>`}>
    <div class="table"><table class="cards"><thead><tr><th scope="col">Worker</th><th scope="col">For</th><th scope="col">State</th><th scope="col">Now</th><th scope="col">Busy 15 s · 5 min · 30 min</th><th scope="col" class="right">Jobs</th><th scope="col" class="right">Memory</th><th scope="col" class="right">CPU</th><th scope="col">Last ping</th><th scope="col">Up</th></tr></thead>
    <tbody>${members.map((each) => html`<${One} key=${each.name} of=${each} now=${now} />`)}</tbody></table></div><//>`;
}

function One({of: each, now}) {
  const tags = each.tags.filter((tag) => tag !== each.script);
  return html`<tr data-row><td><b>${visible(each.name)}</b><div class="muted">${visible(each.host)}, pid ${each.pid}${each.version && html`, v${visible(each.version)}`}</div></td>
    <td>${each.script ? html`<a class="script" href=${`/scripts/${inPath(each.script)}`}>${visible(each.script)}</a>` : 'any script'}<div class="muted">${tags.length ? `tags ${visible(tags.join(', '))}` : each.script ? 'its own tag' : 'no tag'}${each.concurrency > 1 ? `, ${each.concurrency} at a time` : ''}</div></td>
    <td><${State} of=${each.state} />${each.deaf && html`<div class="bad" title="It cannot be woken and finds jobs by polling">deaf</div>`}</td>
    <td>${each.job ? html`<a href=${`/jobs/${each.job.id ?? each.job}`}><code>${short(each.job.id ?? each.job)}</code></a><div class="muted">for ${coarse(now - Date.parse(each.job.since ?? each.job_since))}</div>` : each.running ? plural(each.running, 'job') : html`<span class="muted">–</span>`}</td>
    <td class="busy">${STRETCHES.map((name) => html`<span key=${name} title=${`Busy over ${name}`}><meter-bar><i style=${{width: `${(each.occupancy?.[name] ?? 0) * 100}%`}}></i></meter-bar>${percent(each.occupancy?.[name])}</span>`)}</td>
    <td class="right">${number(each.jobs)}</td><td class="right">${bytes(each.rss ?? each.memory_bytes)}</td><td class="right">${percent(each.cpu)}</td>
    <td class=${now - Date.parse(each.last_ping) > 15_000 ? 'bad' : ''}><${Time} at=${each.last_ping} relative now=${now} /></td><td><${Time} at=${each.started_at} relative now=${now} /></td></tr>`;
}
