// Overview: what runs, what waits and since when, what failed, how full the workers are.
import {html, useState} from '../vendor/preact.js';
import {api, useApi, useLive, useMay} from './data.js';
import {NONE, number, percent, plural, span, sum, visible} from './format.js';
import {address} from './router.js';
import {Chart, outcomes} from './chart.js';
import {JobTable} from './jobs.js';
import {Ask} from './form.js';
import {Act, Ago, Cards, Copy, Empty, Panel, Shown} from './parts.js';

function Figure({name, value, note, tone, href}) {
	const inner = html`<small>${name}</small><p><b>${value}</b>${note && html` <span>${note}</span>`}</p>`;
	return html`<li class=${`figure ${tone ?? ''}`}>${href ? html`<a href=${href}>${inner}</a>` : inner}</li>`;
}

export function Overview() {
	const it = useLive((signal) => api('/overview', {signal}), [], {name: 'overview'}, (event, {put}) => event.type === 'overview' && put((old) => old && {...old, ...event.data}));
	const list = (state, every) => useApi('/jobs', {query: {state, limit: 8}, every});
	const running = list('running', 2000);
	const failed = list('failure', 5000);
	return html`<h1 class="hide">Overview</h1><${Shown} it=${it} what="Looking around">${(data) => html`<${Stranded} of=${data.stranded ?? []} /><${Figures} data=${data} />${data.series && html`<${Charts} series=${data.series} />`}<${Tags} tags=${data.tags} reload=${it.reload} />`}<//>
		<${Panel} title="Failed last" aside=${html`<a href="/jobs?state=failure">All failures</a>`}><${Shown} it=${failed} what="Looking for failures">${({jobs, partial}) => (jobs.length ? html`<${JobTable} jobs=${jobs} />` : html`<${Empty} title=${partial ? 'None among the newest jobs' : 'Nothing has failed'} />`)}<//><//>
		<${Panel} title="Running now" aside=${html`<a href="/jobs?state=running">All that run</a>`}><${Shown} it=${running} what="Looking for jobs">${({jobs}) => (jobs.length ? html`<${JobTable} jobs=${jobs} />` : html`<${Empty} title="Nothing runs at this moment" />`)}<//><//>`;
}

function Figures({data}) {
	const {tags, workers, series = {}, occupancy = {}} = data;
	const waiting = sum(tags.map((each) => each.waiting));
	const more = tags.some((each) => each.more_waiting);
	const oldest = Math.max(0, ...tags.map((each) => each.oldest_due_age_ms ?? 0));
	const failures = sum(series.failure);
	const all = failures + sum(series.success) + sum(series.canceled);
	return html`<ul class="figures" aria-label="Now">
		<${Figure} name="Throughput" value=${number(data.jobs_per_second)} note="jobs/s" />
		<${Figure} name="Running" value=${number(workers.running ?? sum(tags.map((each) => each.running)))} note=${`on ${plural(workers.alive, 'worker')}`} href="/jobs?state=running" />
		<${Figure} name="Waiting" value=${`${number(waiting)}${more ? '+' : ''}`} note=${oldest ? `oldest for ${span(oldest)}` : ''} tone=${oldest > 60_000 ? 'warn' : ''} href="/jobs?state=queued" />
		<${Figure} name="Failed in the last hour" value=${number(failures)} note=${all ? percent(failures / all) : ''} tone=${failures ? 'bad' : ''} href="/jobs?state=failure&since=1h" />
		<${Figure} name="Workers busy" value=${percent(occupancy['15s'])} note=${occupancy['5m'] == null ? '' : `${percent(occupancy['5m'])} over 5 min, ${percent(occupancy['30m'])} over 30`} href="/workers" />
		${workers.lost > 0 && html`<${Figure} name="Lost workers" value=${number(workers.lost)} note="no sign of life" tone="bad" href="/workers" />`}</ul>`;
}

// What nobody will ever run, before all else: how many, since when, why, and what mends it.
function Stranded({of}) {
	if (!of.length) return null;
	return html`<${Panel} tone="failed" title="Jobs that nobody will run" aside=${html`<span class="muted">${plural(of.length, 'tag')}</span>`}><ul class="stranded">${of.map((each) => {
		const [, why, command] = /^(.*); start one with: (.+)$/s.exec(each.text) ?? [, each.text];
		return html`<li key=${`${each.tag} ${each.script}`}><span><a href=${address('/jobs', {tag: each.tag, state: 'queued'})}><b>${number(each.waiting)}${each.more ? '+' : ''}</b> of ${visible(each.script)}</a> ${each.tag !== each.script && html`in tag ${visible(each.tag)} `}<span class="muted">since <${Ago} at=${each.oldest} /></span><br />${visible(why.replace(/^[^:]*: /, ''))}</span>
			${command && html`<${Copy} text=${command} label="Copy the command"><code>${visible(command)}</code><//>`}</li>`;
	})}</ul><//>`;
}

function Charts({series}) {
	const busy = (series.busy_ms ?? []).map((each) => each / 60_000);
	return html`<div class="pair"><${Panel} title="Jobs ended, last hour"><${Chart} minutes=${series.minute} unit="jobs a minute" label="Jobs ended by minute, the last hour" series=${outcomes(series)} /><//>
		<${Panel} title="Work done, last hour"><${Chart} minutes=${series.minute} unit="seconds a second, counted as jobs end" label="Time inside jobs by minute of their end, the last hour" series=${[{name: 'inside jobs', values: busy, tone: 'running'}]} /><//></div>`;
}

const MOST = 15; // tags that are shown at first

function Tags({tags, reload}) {
	const may = useMay()('admin');
	const [pausing, pause] = useState(null);
	const [all, setAll] = useState(false);
	const rows = [...tags].sort((a, b) => (b.oldest_due_age_ms ?? -1) - (a.oldest_due_age_ms ?? -1) || b.waiting - a.waiting || a.tag.localeCompare(b.tag));
	const resume = async (tag) => { await api('/tags/pauses', {method: 'DELETE', query: {tag}}); reload(); };
	const worst = Math.max(1, ...rows.map((each) => each.oldest_due_age_ms ?? 0));
	return html`<${Panel} title="What waits, by tag">${rows.length === 0 ? html`<${Empty} title="No jobs, and nobody who listens">Start a worker: <code>hotpath dedicate NAME</code>.<//>` : html`<${Cards} of=${['Tag', '>Waiting', 'Oldest due, waiting for', '>Running', '>Jobs/s', 'Workers', ...(may ? ['>'] : [])]}>${rows.slice(0, all ? rows.length : MOST).map((each) => html`<tr key=${each.tag} data-row><td class="wide"><a class="script" href=${address('/jobs', {tag: each.tag, state: each.waiting ? 'queued' : ''})}>${visible(each.tag)}</a></td>
			<td class="right">${number(each.waiting)}${each.more_waiting ? '+' : ''}</td>
			<td class="age">${each.oldest_due_age_ms == null ? html`<span class="muted">${each.waiting ? 'none is due' : NONE}</span>` : html`<meter-bar class=${each.oldest_due_age_ms > 60_000 ? 'warn' : ''}><i style=${{width: `${(each.oldest_due_age_ms / worst) * 100}%`}}></i></meter-bar>${span(each.oldest_due_age_ms)}`}</td>
			<td class="right">${number(each.running)}</td><td class="right">${number(each.jobs_per_second)}</td>
			<td>${each.paused ? html`<strong class="bad">paused</strong> <span class="muted">${visible(each.paused.replace(/^paused /, ''))}</span>` : each.stranded ? html`<strong class="bad">stranded: ${each.workers ? 'others’ workers' : 'nobody listens'}</strong>` : each.workers || html`<span class="muted">0</span>`}</td>${may && html`<td class="right">${each.paused ? html`<${Act} act=${() => resume(each.tag)} title=${`Have workers claim jobs of ${each.tag} again`}>Resume<//>` : html`<button class="plain small" aria-label=${`Pause ${each.tag}`} title="Have no worker claim jobs of this tag" onClick=${() => pause(each.tag)}>Pause …</button>`}</td>`}</tr>`)}<//>${!all && rows.length > MOST && html`<p class="pad"><button onClick=${() => setAll(true)}>All ${rows.length} tags</button></p>`}`}
		${pausing && html`<${Pause} tag=${pausing} close=${() => pause(null)} done=${reload} />`}<//>`;
}

function Pause({tag, close, done}) {
	const send = (body) => api('/tags/pauses', {method: 'PUT', body: {tag, ...body}});
	return html`<${Ask} title=${`Pause ${visible(tag)}`} note="Within a second no worker claims jobs of this tag any more. What runs goes on." prefix="pause" of="NewPause" less=${['tag']} send=${send} done=${done} label="Pause it" close=${close} />`;
}
