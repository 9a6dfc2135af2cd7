// Workers, by group: what each is for, whether it lives, what it does now and how full it is.
import {html, useRef, useState} from '../vendor/preact.js';
import {api, useData, useNow} from './data.js';
import {bytes, coarse, number, percent, plural, short, span, visible} from './format.js';
import {inPath} from './router.js';
import {Empty, Head, Panel, Shown, State, Time} from './parts.js';

const fits = (each, words) => words.toLowerCase().split(/\s+/).every((word) => `${each.name} ${each.group ?? ''} ${each.script ?? ''} ${each.host} ${each.tags.join(' ')}`.toLowerCase().includes(word));
const STRETCHES = ['15s', '5m', '30m'];

export function Workers() {
	const [words, setWords] = useState('');
	const it = useData((signal) => api('/workers', {signal}), [], {every: 2000});
	return html`<div class="head"><h1>Workers</h1><form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}><label><span>Find</span>
			<input type="search" data-search placeholder="name, group, script, tag or host" value=${words} onInput=${(event) => setWords(event.target.value)} /></label></form></div>
		<${Shown} it=${it} what="Looking for workers">${({workers}) => {
			const shown = workers.filter((each) => fits(each, words));
			const groups = [...new Set(shown.map((each) => each.group ?? ''))].map((name) => [name, shown.filter((each) => (each.group ?? '') === name)]);
			if (!workers.length) return html`<${Empty} title="No worker is alive">Jobs wait until one is: start it with <code>hotpath dedicate NAME</code>.<//>`;
			if (!shown.length) return html`<${Empty} title=${`None of ${plural(workers.length, 'worker')} fits “${visible(words)}”`} />`;
			return groups.sort(([a], [b]) => !a - !b || a.localeCompare(b)).map(([name, members]) => html`<${Group} key=${name} name=${name} members=${members} />`);
		}}<//>`;
}

function Group({name, members}) {
	const now = useNow();
	const [all, setAll] = useState(false);
	const stopped = members.filter((each) => each.state === 'stopped');
	const there = members.filter((each) => each.state !== 'stopped');
	const lost = there.filter((each) => each.state === 'lost').length;
	const shown = all ? [...there, ...stopped] : there;
	return html`<${Panel} title=${name ? visible(name) : 'No group'} aside=${html`<span class="muted">${plural(there.length, 'worker')}, ${plural(there.reduce((sum, each) => sum + each.running, 0), 'job')} in hand${lost ? html`, <b class="bad">${lost} lost</b>` : ''}</span>
			${stopped.length > 0 && html`<button aria-pressed=${all} onClick=${() => setAll(!all)}>${stopped.length} stopped in the last hour</button>`}`}>
		${shown.length > 0 && html`<div class="table"><table class="cards"><${Head} of=${['Worker', 'For', 'State', 'Now', 'Busy 15 s, 5 min, 30 min', '>Jobs run', '>Memory', '>CPU', 'Last ping', 'Started']} />
		<tbody>${shown.map((each) => html`<${One} key=${each.id ?? each.name} of=${each} now=${now} />`)}</tbody></table></div>`}<//>`;
}

// CPU since the last look, as a share of one core; at the first look since its start.
function useCpu({cpu_seconds: seconds, last_ping: ping, started_at: started}) {
	const seen = useRef(null);
	const at = Date.parse(ping);
	if (seconds == null) return null;
	if (!seen.current) seen.current = {from: 0, since: Date.parse(started), seconds, at};
	if (at > seen.current.at) seen.current = {from: seen.current.seconds, since: seen.current.at, seconds, at};
	const {from, since} = seen.current;
	return seen.current.at > since ? (seen.current.seconds - from) / ((seen.current.at - since) / 1000) : null;
}

function One({of: each, now}) {
	const tags = each.tags.filter((tag) => tag !== each.script);
	const cpu = useCpu(each);
	const quiet = each.state === 'stopped';
	return html`<tr data-row class=${quiet ? 'quiet' : ''}><td><b>${visible(each.name)}</b><div class="muted">${visible(each.host)}, pid ${each.pid}${each.program && html`<br />version ${visible(each.program)}`}</div></td>
		<td>${each.script ? html`<a class="script" href=${`/${each.kind === 'flow' ? 'flows' : 'scripts'}/${inPath(each.script)}`}>${visible(each.script)}</a>` : 'any script'}<div class="muted">${tags.length ? `tags ${visible(tags.join(', '))}` : each.script ? 'its own tag' : 'no tag'}${each.concurrency > 1 ? `, ${each.concurrency} at a time` : ''}</div></td>
		<td><${State} of=${each.state} />${each.deaf && html`<div class="bad" title="It cannot be woken and finds jobs by polling">deaf</div>`}</td>
		<td data-l="now">${each.current_job ? html`<a href=${`/jobs/${each.current_job}`}><code>${short(each.current_job)}</code></a><div class="muted">for ${coarse(Math.max(now - Date.parse(each.current_since), 0))}${each.under_way > 1 ? `, and ${each.under_way - 1} more` : ''}</div>` : each.under_way ? plural(each.under_way, 'job') : html`<span class="muted">–</span>`}</td>
		<td data-l="busy" class="busy">${each.occupancy ? html`<meter-bar><i style=${{width: `${each.occupancy['15s'] * 100}%`}}></i></meter-bar>${STRETCHES.map((name) => percent(each.occupancy[name])).join(', ')}` : html`<span class="muted">–</span>`}</td>
		<td data-l="jobs run" class="right">${number(each.jobs)}</td><td data-l="memory" class="right">${bytes(each.rss)}</td><td data-l="CPU" class="right" title=${each.cpu_seconds == null ? '' : `${span(each.cpu_seconds * 1000)} so far`}>${quiet ? '–' : percent(cpu)}</td>
		<td data-l="last ping" class=${!quiet && now - Date.parse(each.last_ping) > 15_000 ? 'bad' : ''}><${Time} at=${each.last_ping} relative now=${now} /></td><td data-l="started"><${Time} at=${each.started_at} relative now=${now} /></td></tr>`;
}
