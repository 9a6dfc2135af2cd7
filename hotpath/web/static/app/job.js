// One job: what it is, why it waits or failed, what it said; and what can be done about it.
import {html, useState} from '../vendor/preact.js';
import {api, useApi, useData, useLive, useNow} from './data.js';
import {go, inPath} from './router.js';
import {short, span, visible} from './format.js';
import {Act, Ago, Cards, Copy, Dialog, Empty, Facts, Id, Json, Loading, Panel, Script, Shown, State, Time, Trouble} from './parts.js';
import {strip} from './ansi.js';
import {Log} from './log.js';
import {RunForm} from './form.js';
import {Run} from './run.js';

const ended = (job) => !['queued', 'running'].includes(job.state);
const NOT_KEPT = html`<p class="muted pad">Not kept any more: its time was over.</p>`;
const page = (job) => `${job.kind === 'flow' ? '/runs' : '/jobs'}/${job.id}`;

export function Job({of: [id]}) {
	const it = useLive((signal) => api(`/jobs/${encodeURIComponent(id)}`, {signal}), [id], {name: 'job', what: () => ({job: id})},
		(event, {put, reload}) => {
			if (event.type !== 'job') return;
			for (const name of event.job.cut ?? []) delete event.job[name]; // too long to be pushed: asked for instead
			put((old) => ({...old, ...event.job}));
			if (event.job.cut && ended(event.job)) reload();
		});
	if (it.error?.status === 404 || it.error?.status === 400 || it.error?.status === 422) {
		return html`<${Empty} title="There is no such job"><code>${id}</code> is not in this database: mistyped, of another workspace, or gone with its retention. <a href="/jobs">All jobs</a>.<//>`;
	}
	return html`<${Shown} it=${it} what="Looking for the job">${(job) => html`<${Found} job=${job} reload=${it.reload} />`}<//>`;
}

function Found({job, reload}) {
	const [again, setAgain] = useState(false);
	const done = ended(job);
	const flow = job.kind === 'flow';
	const cancel = async () => {
		const {canceled} = await api(`/jobs/${job.id}/cancel`, {method: 'POST'});
		reload();
		return canceled ? (job.state === 'running' ? 'asked to stop' : 'canceled') : 'it had ended already';
	};
	const retry = async () => {
		const {retried} = await api(`/jobs/${job.id}/retry`, {method: 'POST', body: {}});
		reload();
		return retried ? 'queued again' : 'it has not ended yet';
	};
	const waiting = job.state === 'queued' && html`<${Waiting} job=${job} />`;
	return html`<div class="head job"><div>
			<h1><${State} of=${job.state} /> <${Script} of=${job.script} kind=${job.kind} />${job.step && html` <span class="muted">step <code>${visible(job.step)}</code></span>`}</h1>
			<p class="sub"><${Id} id=${job.id} what="job's id" />${job.parent && html` in run <a href=${`/runs/${job.parent}`}><code>${short(job.parent)}</code></a>`}</p></div>
		<div class="actions">
			${!done && html`<${Act} key="cancel" id="cancel" act=${cancel} tone="danger" title="Ends it: at once if it waits, else as soon as its worker hears">Cancel<//>`}
			${done && job.kind !== 'step' && !job.not_kept?.includes('args') && html`<${Act} key="retry" id="retry" act=${retry} title="The same job once more: same id, same args, one attempt more">Retry<//>`}
			${job.kind !== 'step' && html`<button id="again" onClick=${() => setAgain(true)}>Run again …</button>`}</div></div>
		${job.error && html`<${Failure} error=${job.error} />`}
		${flow ? html`<${Run} job=${job} ended=${done} reload=${reload} otherwise=${waiting} />` : waiting}
		<${Panel} title="When"><${Times} job=${job} /><${Details} job=${job} /><//>
		<div class="pair"><${Panel} title="Args">${job.not_kept?.includes('args') ? NOT_KEPT : html`<${Json} value=${job.args} label="Args" />`}<//>
			${job.state === 'success' ? html`<${Panel} title="Result">${job.not_kept?.includes('result') ? NOT_KEPT : html`<${Json} value=${job.result} label="Result" />`}<//>` : null}</div>
		<${Log} key=${job.id} job=${job.id} ended=${done} state=${job.state} />
		${job.attempt > 1 && html`<${Attempts} job=${job} />`}
		${again && html`<${Again} job=${job} close=${() => setAgain(false)} />`}`;
}

// Where the time went: waited, then ran.
function Times({job}) {
	const now = useNow(ended(job) ? 60_000 : 500);
	const at = (text) => (text ? Date.parse(text) : null);
	const made = at(job.created_at);
	const due = job.kind === 'flow' && job.state === 'queued' ? made : Math.max(made, Math.min(at(job.scheduled_for), now));
	const begun = at(job.started_at);
	const end = at(job.finished_at) ?? now;
	const parts = [
		['scheduled', job.attempt > 1 ? 'paused' : 'set for later', due - made],
		['waited', ended(job) || begun ? 'waited' : 'waiting', Math.max((begun ?? end) - due, 0)],
		['ran', ended(job) ? 'ran' : 'running', begun ? (ended(job) ? job.duration_ms ?? end - begun : end - begun) : 0],
	].filter(([, , ms]) => ms > 0);
	const all = parts.reduce((sum, [, , ms]) => sum + ms, 0) || 1;
	const words = parts.map(([, said, ms]) => `${said} ${span(ms)}`).join(', ');
	return html`<div class="timebar" role="img" aria-label=${words || 'no time yet'}>${parts.map(([kind, , ms]) => html`<i key=${kind} class=${`${kind} ${kind === 'ran' ? job.state : ''}`} style=${{flexGrow: ms / all}}></i>`)}</div>
		<ul class="legend">${parts.map(([kind, said, ms]) => html`<li key=${kind}><i aria-hidden class=${`${kind} ${kind === 'ran' ? job.state : ''}`}></i>${said} <b>${span(ms)}</b></li>`)}</ul>`;
}

const FAR = 50 * 365 * 86_400_000; // a run that waits for somebody is due after the end of everything

function Details({job}) {
	const due = Date.parse(job.scheduled_for);
	return html`<${Facts} of=${[
		['Created', html`<${Time} at=${job.created_at} /> <span class="muted">(<${Ago} at=${job.created_at} />)</span>`],
		Math.abs(due - Date.parse(job.created_at)) >= 1000 && ['Due', due - Date.now() > FAR ? 'when it is woken' : html`<${Time} at=${job.scheduled_for} />`],
		['Started', html`<${Time} at=${job.started_at} />`],
		['Finished', html`<${Time} at=${job.finished_at} />`],
		['Attempt', String(job.attempt)], ['Priority', String(job.priority)],
		['Tag', html`<a href=${`/jobs?${new URLSearchParams({tag: job.tag})}`}>${visible(job.tag)}</a>`],
		['Worker', job.worker ? visible(job.worker) : null],
	]} />`;
}

const KINDS = {timeout: 'ran out of time', crash: 'its worker died', bad_args: 'its args were refused', bad_result: 'its result could not be stored', canceled: 'was canceled'};

function Failure({error}) {
	const where = error.step ? ` in step ${error.step}${error.iteration ? `, iteration ${error.iteration}` : ''}` : '';
	return html`<${Panel} title=${`${visible(error.name ?? 'Error')}${KINDS[error.kind] ? ` – ${KINDS[error.kind]}` : ''}${visible(where)}`} tone="failed" name="Error"
			aside=${html`<${Copy} text=${() => error.traceback ?? `${error.name}: ${error.message}`} label="Copy" />`}>
		<p class="message">${strip(error.message ?? '')}</p>
		${error.traceback && html`<details open><summary>Traceback</summary><pre class="traceback" tabindex="0" aria-label="Traceback">${strip(error.traceback)}</pre></details>`}<//>`;
}

// Why is this waiting?
function Waiting({job}) {
	const it = useApi(`/jobs/${job.id}/waiting`, {every: 2000});
	const said = it.data;
	return html`<${Panel} title="Why is this waiting?" tone="waiting"><${Trouble} error=${it.error} />
		${!said && !it.error && html`<${Loading} what="Looking into it" />`}
		${said && html`<ul class="reasons">${said.reasons.map((each, k) => html`<li key=${k} class=${each.kind}>${visible(each.text)}${each.until && html` <span class="muted">until <${Time} at=${each.until} /></span>`}${each.job && html` <a href=${`/jobs/${each.job}`}>that job</a>`}</li>`)}
			${!said.reasons.length && html`<li>Nothing holds it: a worker takes it with its next look.</li>`}</ul>`}<//>`;
}

function Attempts({job}) {
	const it = useData((signal) => api(`/jobs/${job.id}/attempts`, {signal}), [job.id, job.attempt, job.state]);
	return html`<${Panel} title="Attempts"><${Shown} it=${it} what="Reading its attempts">${(data) => html`<${Cards} of=${['>Attempt', 'State', 'Started', '>Took', 'Worker', 'Error']}>${data.attempts.map((each) => html`<tr key=${each.attempt}><td class="right">${each.attempt}</td><td><${State} of=${each.state} /></td><td><${Time} at=${each.started_at} /></td>
			<td class="right">${span(each.duration_ms)}</td><td>${visible(each.worker ?? '–')}</td><td class="wide">${each.error ? strip(`${each.error.name}: ${each.error.message}`) : ''}</td></tr>`)}<//>`}<//><//>`;
}

function Again({job, close}) {
	const it = useApi(`/scripts/${inPath(job.script)}`);
	return html`<${Dialog} title=${`Run ${visible(job.script)} again`} close=${close}><p class="muted">A new job with these args. Change what you like; secrets have to be typed again.</p>
		<${Shown} it=${it} what="Reading its schema">${({versions: [script]}) => html`<${RunForm} script=${job.script} schema=${script.schema} value=${job.args ?? {}} tag=${job.tag === (script.tag ?? job.script) ? '' : job.tag} priority=${job.priority}
			close=${close} done=${(id) => { close(); go(page({...job, id})); }} />`}<//><//>`;
}
