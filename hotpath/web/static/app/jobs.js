// Jobs: a live list, newest first; its filters are its address.
import {html, useEffect, useRef, useState} from '../vendor/preact.js';
import {api, useApi, useData, useNow} from './data.js';
import {address, go} from './router.js';
import {NONE, plural, short, span, UNITS, visible} from './format.js';
import {strip} from './ansi.js';
import {Empty, Head, Script, STATES, Shown, State, Time} from './parts.js';

const PAGE = 50;
const SINCE = [['', 'any time'], ['15m', 'last 15 min'], ['1h', 'last hour'], ['24h', 'last 24 h'], ['7d', 'last 7 days']];
const sinceTime = (text) => {
	const match = /^(\d+)([mhd])$/.exec(text ?? '');
	return match ? new Date(Date.now() - match[1] * UNITS[match[2]] * 1000).toISOString() : text;
};

function Filter({name, label, value, set, type = 'search', options, first, list}) {
	const [text, setText] = useState(value ?? '');
	const timer = useRef(0);
	useEffect(() => setText(value ?? ''), [value]);
	if (options) {
		return html`<label><span>${label}</span><select name=${name} value=${value ?? ''} onChange=${(event) => set(event.target.value)}>
			${options.map(([key, said]) => html`<option key=${key} value=${key}>${said}</option>`)}</select></label>`;
	}
	const typed = (event) => {
		setText(event.target.value);
		clearTimeout(timer.current);
		const now = event.target.value.trim();
		timer.current = setTimeout(() => set(now), 350);
	};
	return html`<label><span>${label}</span><input type=${type} name=${name} value=${text} list=${list} autocomplete="off"
		data-search=${first} placeholder="all" onInput=${typed} /></label>`;
}

export function Jobs({query}) {
	const set = (patch) => go(address('/jobs', {...query, before: undefined, ...patch}));
	const {state, script, tag, since, before, parent, steps} = query;
	const it = useData((signal) => api('/jobs', {signal, query: {state, script, tag, since: sinceTime(since), before, parent, steps, limit: PAGE}}),
		[state, script, tag, since, before, parent, steps], {every: before ? 0 : 2000});
	const filtered = state || script || tag || since || parent;
	return html`<div class="head"><h1>Jobs${parent && html` <span class="muted">of run <a href=${`/runs/${parent}`}><code>${short(parent)}</code></a></span>`}</h1>
		<form class="filters" role="search" aria-label="Filter jobs" onSubmit=${(event) => event.preventDefault()}>
			<${Filter} name="state" label="State" value=${state} set=${(value) => set({state: value})} options=${[['', 'all'], ...STATES.map((each) => [each, each])]} />
			<${Filter} name="script" label="Script" value=${script} set=${(value) => set({script: value})} list="known-scripts" first />
			<${Filter} name="tag" label="Tag" value=${tag} set=${(value) => set({tag: value})} />
			<${Filter} name="since" label="Created" value=${since ?? ''} set=${(value) => set({since: value})} options=${SINCE.some(([key]) => key === (since ?? '')) ? SINCE : [...SINCE, [since, since]]} />
			<label class="check"><input type="checkbox" name="steps" checked=${steps === 'true'} onChange=${(event) => set({steps: event.target.checked && 'true'})} /><span>steps of flows too</span></label>
			<${Names} id="known-scripts" />
			${filtered && html`<a class="clear" href="/jobs">Clear</a>`}
		</form></div>
		${it.error?.status === 404 ? html`<${Empty} title="Nothing is called so">${visible(it.error.message)}<//>` : html`<${Shown} it=${it} what="Looking for jobs">${(data) => html`<${JobTable} jobs=${data.jobs} stale=${it.loading} />
			${!data.jobs.length && html`<${Empty} title=${data.partial ? 'None among the newest' : filtered ? 'No job fits these filters' : before ? 'There are no older jobs' : 'No jobs yet'}>
				${data.partial ? 'There may be some among the older ones.' : filtered ? html`Widen them, or <a href="/jobs">see all jobs</a>.` : before ? html`<a href="/jobs">Back to the newest</a>.` : html`Enqueue the first from a <a href="/scripts">script's page</a>, or with <code>hotpath push NAME '{"x": 1}'</code>.`}<//>`}
			<nav class="pages" aria-label="Pages">${before ? html`<a href=${address('/jobs', {...query, before: undefined})}>« Newest</a>` : html`<span class="muted">${data.jobs.length ? `${plural(data.jobs.length, 'job')}, newest first, refreshed every 2 s` : ''}</span>`}
				${data.next && html`<a href=${address('/jobs', {...query, before: data.next})} rel="next">Older »</a>`}</nav>`}<//>`}`;
}

// Of the scripts that there are, for an input's `list`.
export const Names = ({id}) => html`<datalist id=${id}>${useApi('/scripts').data?.scripts.map((each) => html`<option key=${each.script} value=${each.script}></option>`)}</datalist>`;

// The time that matters most in each state.
const when = (job) => job.finished_at ?? job.started_at ?? job.scheduled_for;

export function JobTable({jobs, stale}) {
	const now = useNow();
	if (!jobs.length) return null;
	return html`<div class=${`table ${stale ? 'stale' : ''}`}><table class="jobs"><${Head} of=${['State', 'Job', 'Script', 'Tag', 'When', '>Took', 'Worker']} />
		<tbody>${jobs.map((job) => html`<tr key=${job.id} data-row>
			<td><${State} of=${job.state} /></td>
			<td><a class="id" href=${`${job.kind === 'flow' ? '/runs' : '/jobs'}/${job.id}`} title=${job.id}><code>${short(job.id)}</code></a>${job.attempt > 1 && html` <span class="muted" title="Attempts">×${job.attempt}</span>`}</td>
			<td class="wide"><${Script} of=${job.script} kind=${job.kind} tabindex="-1" />${job.step && html` <code class="muted">${visible(job.step)}</code>`}
				${job.error && html`<div class="why" title=${strip(job.error.message)}>${strip(`${job.error.name}: ${job.error.message}`.slice(0, 300))}</div>`}</td>
			<td class="tag">${job.tag === job.script ? html`<span class="muted" title=${job.tag}>own</span>` : visible(job.tag)}</td>
			<td class="when"><${Time} at=${when(job)} relative now=${now} /></td>
			<td data-l=${job.state === 'running' ? 'for' : 'took'} class=${`right took ${job.started_at || job.duration_ms ? '' : 'none'}`}>${span(job.duration_ms ?? (job.state === 'running' && job.started_at ? now - Date.parse(job.started_at) : null))}</td>
			<td class="worker" title=${job.worker}>${job.worker ? visible(job.worker) : NONE}</td></tr>`)}</tbody></table></div>`;
}
