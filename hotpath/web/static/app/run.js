// A flow's run: its graph with the states of its steps, what it waits for, and the tree of its steps in time.
import {html, useMemo, useState} from '../vendor/preact.js';
import {api, useLive, useNow} from './data.js';
import {clock, plural, span, visible} from './format.js';
import {strip} from './ansi.js';
import {FlowGraph, place, useFlow, worst} from './graph.js';
import {SchemaForm} from './form.js';
import {Act, Ago, Dialog, Empty, Panel, Shown, State, Time} from './parts.js';

const STEPS = 5000;
const MOST = 300; // rows of the tree that are drawn at once

export function Run({job, ended, reload, otherwise}) {
	const [picked, setPicked] = useState(null);
	const [seq] = useState({last: null});
	const flow = useFlow(job.script);
	const it = useLive((signal) => api(`/runs/${job.id}`, {signal, query: {limit: STEPS}}), [job.id, job.state, job.attempt], {name: 'run', what: () => ({job: job.id, after: seq.last})}, (event, {put, reload: again}) => {
		if (event.type === 'resync') again();
		if (event.type !== 'run') return;
		seq.last = event.seq;
		put((old) => {
			const steps = new Map(event.full ? [] : (old?.steps ?? []).map((each) => [each.step, each]));
			event.steps.forEach((each) => steps.set(each.step, each));
			return {...old, steps: [...steps.values()], waits: event.waits ?? old?.waits ?? []};
		});
	}, {until: ended});
	return html`<${Shown} it=${it} what="Reading its steps">${({steps, waits, more_steps: more}) => html`${waits.length ? html`<${Waits} job=${job} waits=${waits} done=${() => { it.reload(); reload(); }} />` : otherwise}
		<div class="run"><${Drawn} job=${job} flow=${flow} steps=${steps} waits=${waits} picked=${picked} pick=${(at) => setPicked(at === picked ? null : at)} />
		<${Tree} job=${job} nodes=${flow.data?.nodes ?? []} steps=${steps} more=${more} waits=${waits} ended=${ended} picked=${picked} clear=${() => setPicked(null)} reload=${() => { it.reload(); reload(); }} /></div>`}<//>`;
}

function Drawn({job, flow, steps, waits, picked, pick}) {
	const states = useMemo(() => {
		const found = {};
		const add = (at, state, ms) => {
			const it = (found[at] ??= {states: [], done: 0, all: 0, failed: 0, ms: null});
			it.states.push(state);
			it.all += 1;
			if (state === 'failure') it.failed += 1;
			if (!['queued', 'running', 'waiting'].includes(state)) it.done += 1;
			if (ms != null) it.ms = (it.ms ?? 0) + ms;
		};
		steps.forEach((each) => add(place(each.step), each.state, each.duration_ms));
		waits.forEach((each) => {
			if (each.kind === 'child') return;
			const at = place(each.step); // its step has ended already: it is not one more
			if (found[at]) found[at].states.push('waiting');
			else add(at, 'waiting', null);
		});
		for (const at of Object.keys(found)) found[at].state = worst(found[at].states);
		return found;
	}, [steps, waits]);
	return html`<${FlowGraph} name=${job.script} flow=${flow} states=${states} picked=${picked} pick=${pick} />`;
}

const waitSaid = (wait) => ({
	suspend: html`<b>Waits for ${wait.required > 1 ? `${wait.answers} of ${plural(wait.required, 'approval')}` : 'an approval'}</b> behind step <code>${visible(wait.step)}</code>`,
	sleep: html`<b>Sleeps</b> behind step <code>${visible(wait.step)}</code>`,
	retry: html`<b>Waits to run</b> step <code>${visible(wait.step)}</code> <b>again</b>`,
	child: html`<b>Waits for</b> step <code>${visible(wait.step)}</code>, ${wait.state === 'queued' ? html`queued on tag <a href=${`/jobs?${new URLSearchParams({tag: wait.tag, steps: 'true'})}`}>${visible(wait.tag)}</a>` : visible(wait.state ?? 'unknown')}`,
}[wait.kind] ?? visible(wait.kind));

function Waits({job, waits, done}) {
	return html`<${Panel} title="What it waits for" tone="waiting"><ul class="waits">${waits.slice(0, 50).map((each) => html`<li key=${`${each.kind}-${each.step}`}><span>${waitSaid(each)}${each.since && html` <span class="muted">since <${Time} at=${each.since} /> (<${Ago} at=${each.since} />)</span>`}${each.until && html` <span class="muted">until <${Time} at=${each.until} /></span>`}
			${each.job && html` <a href=${`/jobs/${each.job}`}>its job</a>`}</span>${each.kind === 'suspend' && html`<${Approval} job=${job} wait=${each} done=${done} />`}</li>`)}</ul>
		${waits.length > 50 && html`<p class="muted pad">and ${waits.length - 50} more</p>`}<//>`;
}

function Approval({job, wait, done}) {
	const [asked, setAsked] = useState(null); // true: approve, false: disapprove
	const [approver, setApprover] = useState('');
	const answer = async (approve, payload) => {
		await api(`/runs/${job.id}/resume`, {method: 'POST', text: `{"step": ${JSON.stringify(wait.step)}, "approve": ${approve}, "approver": ${JSON.stringify(approver)}, "payload": ${payload}}`});
		setAsked(null);
		done();
	};
	const name = html`<div class="field"><label for="approver">Your name <span class="muted">the flow sees it</span></label><input id="approver" autocomplete="name" value=${approver} onInput=${(event) => setApprover(event.target.value)} /></div>`;
	const nothing = {type: 'object', properties: {}, additionalProperties: false};
	return html`<span class="actions"><button class="main" onClick=${() => setAsked(true)}>Approve …</button><button class="danger" onClick=${() => setAsked(false)}>Disapprove …</button></span>
		${asked !== null && html`<${Dialog} title=${`${asked ? 'Approve' : 'Disapprove'} behind step ${visible(wait.step)}`} close=${() => setAsked(null)}>
			<p class="muted">${asked ? 'The run goes on with what you say here.' : 'As a rule the run fails then; the flow decides.'}</p>
			<${SchemaForm} key=${asked} prefix="say" schema=${asked && wait.form ? wait.form : nothing} quiet label=${asked ? 'Approve' : 'Disapprove'} close=${() => setAsked(null)} submit=${(json) => answer(asked, asked && wait.form ? json : 'null')}>${name}<//><//>`}`;
}

// Steps as a tree: loops hold iterations, which hold steps.
function grow(steps, waits, nodes) {
	const branches = new Map(nodes.filter((each) => each.kind === 'branch').map((each) => [each.id.replace(/\[\*\]/g, '[]'), each.label]));
	const named = (path, part) => {
		const branch = branches.get(path.slice(0, -part.length).replace(/\[\d+\]/g, '[]') + part); // within loops, whichever the iteration
		return branch ? `branch: ${branch}` : `iteration ${part.slice(1, -1)}`;
	};
	const root = {children: new Map(), key: ''};
	const at = (key) => {
		let node = root;
		let path = '';
		for (const part of key.match(/\[[^\]]*\]|[^[\]/]+/g) ?? [key]) {
			path += part.startsWith('[') ? part : path ? `/${part}` : part;
			if (!node.children.has(part)) node.children.set(part, {children: new Map(), key: path, name: part.startsWith('[') ? named(path, part) : part});
			node = node.children.get(part);
		}
		return node;
	};
	steps.forEach((each) => { at(each.step).step = each; });
	waits.forEach((each) => { if (each.kind !== 'child') at(each.step).wait = each; });
	const sum = (node) => {
		const inner = [...node.children.values()].map(sum);
		inner.forEach((each) => { each.among = inner.length; });
		const own = node.wait ? 'waiting' : node.step?.state;
		node.state = own ?? worst(inner.map((each) => each.state));
		node.failed = node.state === 'failure' || inner.some((each) => each.failed);
		const starts = [node.step?.started_at && Date.parse(node.step.started_at), ...inner.map((each) => each.from)].filter(Boolean);
		node.from = starts.length ? Math.min(...starts) : null;
		const ends = [node.step?.finished_at && Date.parse(node.step.finished_at), ...inner.map((each) => each.to)].filter(Boolean);
		node.to = ends.length ? Math.max(...ends) : null;
		return node;
	};
	return sum(root);
}

function flat(node, opened, rows, depth, only) {
	for (const child of node.children.values()) {
		if (only && !only(child)) continue;
		const open = opened(child);
		rows.push({node: child, depth, open});
		if (open) flat(child, opened, rows, depth + 1, only);
	}
	return rows;
}

function Tree({job, nodes, steps, more, waits, ended, picked, clear, reload}) {
	const now = useNow(ended ? 60_000 : 1000);
	const [turned, setTurned] = useState({});
	const [most, setMost] = useState(MOST);
	const [failures, setFailures] = useState(false);
	const root = useMemo(() => grow(steps, waits, nodes), [steps, waits, nodes]);
	const failed = steps.filter((each) => each.state === 'failure').length;
	const within = (node) => !picked || place(node.key) === picked || place(node.key).startsWith(`${picked}/`) || picked.startsWith(`${place(node.key)}/`);
	const opened = (node) => turned[node.key] ?? (node.children.size > 0 && (node.failed || picked || (node.children.size <= 20 && !(node.key.endsWith(']') && node.among > 5))));
	const rows = flat(root, opened, [], 0, (node) => within(node) && (!failures || node.failed));
	const from = root.from ?? Date.parse(job.started_at ?? job.created_at);
	// One that is parked has nothing to show since its last step.
	const to = ended || job.state === 'queued' ? Math.max(root.to ?? from, Date.parse(job.finished_at ?? 0) || 0) : now;
	const all = Math.max(to - from, 1);
	return html`<${Panel} title="Steps" aside=${html`<span class="muted">${more ? html`the first ${plural(steps.length, 'step')}, <a href=${`/jobs?parent=${job.id}`}>all</a>` : plural(steps.length, 'step')}</span>${picked && html` <button onClick=${clear}>Only ${visible(picked)} ✕</button>`}
			${failed > 0 && html` <button aria-pressed=${failures} onClick=${() => setFailures(!failures)}>Failed only (${failed})</button>`}`}>
		${!rows.length ? html`<${Empty} title=${ended ? 'It has no steps' : 'No step has ended yet'} />` : html`<div class="table"><table class="tree"><thead><tr><th scope="col">Step</th><th scope="col">State</th><th scope="col" class="gantt">From ${clock(new Date(from).toISOString())}, ${span(all)} in all</th><th scope="col" class="right">Took</th><th scope="col"><span class="hide">Actions</span></th></tr></thead>
			<tbody>${rows.slice(0, most).map(({node, depth, open}) => {
				const {step} = node;
				const start = node.from == null ? null : (node.from - from) / all;
				const end = ((node.state === 'running' ? now : node.to ?? node.from) - from) / all;
				return html`<tr key=${node.key} data-row><td><div class="branch" style=${{paddingLeft: `${depth * 18}px`}}>${node.children.size ? html`<button class="plain twist" aria-expanded=${Boolean(open)} aria-label=${`${open ? 'Close' : 'Open'} ${node.name}`} onClick=${() => setTurned((old) => ({...old, [node.key]: !open}))}>${open ? '▾' : '▸'}</button>` : html`<span class="twist"></span>`}
						${step ? html`<a href=${`/jobs/${step.id}`} title=${visible(node.key)}>${visible(node.name)}</a>` : html`<span title=${visible(node.key)}>${visible(node.name)}</span>`}${node.children.size > 0 && !open && html` <span class="muted">${node.children.size}</span>`}${step?.attempt > 1 && html` <span class="muted">×${step.attempt}</span>`}</div>
</td>
					<td>${node.state && html`<${State} of=${node.state} />`}</td>
					<td class="gantt">${start != null && html`<span class="lane"><i class=${`ran ${node.state}`} style=${{left: `${Math.min(Math.max(start * 100, 0), 99.5)}%`, width: `${Math.max(Math.min(end - start, 1 - start) * 100, 0.5)}%`}}></i></span>`}</td>
					<td class="right">${span(step?.duration_ms ?? (node.from && node.to ? node.to - node.from : null))}</td>
					<td class="right">${step && ended && job.state !== 'success' && html`<${Act} act=${async () => { const {retried} = await api(`/jobs/${job.id}/retry`, {method: 'POST', body: {from_step: node.key}}); reload(); return retried ? 'queued' : 'not now'; }} title="Run it again from this step; what ended before counts as it is">Retry from here<//>`}</td></tr>
					${step?.error && html`<tr key=${`${node.key} error`} class="error"><td colspan="5"><div class="why" style=${{marginLeft: `${depth * 18 + 28}px`}}>${strip(`${step.error.name}: ${step.error.message}`.slice(0, 500))}</div></td></tr>`}`;
			})}</tbody></table></div>${rows.length > most && html`<p class="pad"><button onClick=${() => setMost(most + 1000)}>Show more of ${rows.length.toLocaleString()} rows</button></p>`}`}<//>`;
}
