// Workers, by group: what each is for, whether it lives, what it does now and how full it is.
import {html, useRef, useState} from '../vendor/preact.js';
import {useApi, useNow} from './data.js';
import {bytes, coarse, NONE, number, percent, plural, span, visible} from './format.js';
import {inPath} from './router.js';
import {Cards, Empty, Find, has, Panel, Run, Script, Shown, State, Time} from './parts.js';

const told = (each) => `${each.name} ${each.group ?? ''} ${each.script ?? ''} ${each.host} ${[...each.tags, ...(each.patterns ?? [])].join(' ')}`;
const STRETCHES = ['15s', '5m', '30m'];

// A process that a normal worker feeds with jobs of one script listens to no tag itself.
const isWarm = (each) => Boolean(each.script) && !each.tags.length && !each.patterns;
const order = (each) => (each.patterns ? 0 : isWarm(each) ? 1 : 2);

export function Workers({query}) {
	const [words, setWords] = useState(query.find ?? '');
	const it = useApi('/workers', {every: 2000});
	return html`<div class="head"><h1>Workers</h1><${Find} words=${words} set=${setWords} among="name, group, script, tag or host" /></div>
		<${Shown} it=${it} what="Looking for workers">${({workers}) => {
			const shown = workers.filter((each) => has(told(each), words));
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
	const there = members.filter((each) => each.state !== 'stopped').sort((a, b) => order(a) - order(b) || a.name.localeCompare(b.name));
	const warm = there.filter(isWarm).length;
	const lost = there.filter((each) => each.state === 'lost').length;
	const shown = all ? [...there, ...stopped] : there;
	return html`<${Panel} name=${name || 'No group'} title=${name ? html`<a href=${`/groups/${inPath(name)}`}>${visible(name)}</a>` : 'No group'} aside=${html`<span class="muted">${plural(there.length - warm, 'worker')}${warm ? `, ${plural(warm, 'process', 'processes')} kept warm` : ''}, ${plural(there.reduce((sum, each) => sum + each.running, 0), 'job')} in hand${lost ? html`, <b class="bad">${lost} lost</b>` : ''}</span>
			${stopped.length > 0 && html`<button aria-pressed=${all} onClick=${() => setAll(!all)}>${stopped.length} stopped in the last hour</button>`}`}>
		${shown.length > 0 && html`<${Cards} of=${['Worker', 'For', 'State', 'Now', 'Busy 15 s, 5 min, 30 min', '>Jobs run', '>Memory', '>CPU', 'Last ping', 'Started']}>${shown.map((each) => html`<${One} key=${each.id ?? each.name} of=${each} now=${now} />`)}<//>`}<//>`;
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
	return html`<tr data-row class=${`${quiet ? 'quiet' : ''} ${isWarm(each) ? 'warm' : ''}`}><td><b>${visible(each.name)}</b><div class="muted">${visible(each.host)}, pid ${each.pid}${each.program && html`<br />version ${visible(each.program)}`}</div></td>
		<td>${each.script ? html`<${Script} of=${each.script} kind=${each.kind} />` : 'any script'}<div class="muted">${each.patterns ? `tags ${visible(each.patterns.join(', '))}` : isWarm(each) ? 'kept warm for a normal worker' : tags.length ? `tags ${visible(tags.join(', '))}` : each.script ? 'its own tag' : 'no tag'}${each.concurrency > 1 ? `, ${each.concurrency} at a time` : ''}</div></td>
		<td><${State} of=${each.state} />${each.deaf && html`<div class="bad" title="It cannot be woken and finds jobs by polling">deaf</div>`}${each.refused && html`<div class="bad" title=${each.refusal}>keeps its version</div>`}</td>
		<td>${each.current_job ? html`<${Run} of=${each.current_job} /><div class="muted">for ${coarse(Math.max(now - Date.parse(each.current_since), 0))}${each.under_way > 1 ? `, and ${each.under_way - 1} more` : ''}</div>` : each.under_way ? plural(each.under_way, 'job') : NONE}</td>
		<td class="busy">${each.occupancy ? html`<meter-bar><i style=${{width: `${each.occupancy['15s'] * 100}%`}}></i></meter-bar>${STRETCHES.map((name) => percent(each.occupancy[name])).join(', ')}` : NONE}</td>
		<td class="right">${number(each.jobs)}</td><td class="right">${bytes(each.rss)}</td><td class="right" title=${each.cpu_seconds == null ? '' : `${span(each.cpu_seconds * 1000)} so far`}>${quiet ? '–' : percent(cpu)}</td>
		<td class=${!quiet && now - Date.parse(each.last_ping) > 15_000 ? 'bad' : ''}><${Time} at=${each.last_ping} relative now=${now} /></td><td><${Time} at=${each.started_at} relative now=${now} /></td></tr>`;
}
