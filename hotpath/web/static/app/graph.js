// A flow as a graph: dagre says where things go, the states of a run colour them.
import {html, useEffect, useMemo, useState} from '../vendor/preact.js';
import {api, useData} from './data.js';
import {inPath} from './router.js';
import {span, visible} from './format.js';
import {Panel, Trouble} from './parts.js';

const LINE = 17;
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const ROLES = {failure: 'when the flow fails', preprocessor: 'before all else'};
const lines = (node) => [...new Set([node.label, node.summary || (node.does === 'script' ? '' : node.does), node.around?.join(', '), ROLES[node.role]])].filter(Boolean).map((each) => cut(visible(each), 38));
const title = (node) => lines(node).slice(0, 2).join(' · ');
const whole = (node) => visible([node.label, node.summary, node.does, ...(node.around ?? [])].filter(Boolean).join(' · '));

// A step's key, or a node's id, without numbers of iterations, branches and tries: where it stands in the graph.
export const place = (key) => key.replace(/\[[^\]]*\]/g, '').replace(/~\d+/g, '').replace(/#\d+/g, '');

const ORDER = ['running', 'waiting', 'failure', 'queued', 'canceled', 'success'];
export const worst = (states) => ORDER.find((each) => states.includes(each));

const TITLE = 16; // px over what is in a box, for each box in it

function layout(dagre, {nodes, edges}, counted) {
	const graph = new dagre.Graph({compound: true, multigraph: true});
	graph.setGraph({rankdir: 'TB', nodesep: 26, ranksep: 46, marginx: 10, marginy: 26});
	graph.setDefaultEdgeLabel(() => ({}));
	const held = new Map();
	for (const node of nodes) if (node.parent) held.set(node.parent, [...(held.get(node.parent) ?? []), node]);
	const deep = (node) => (held.has(node.id) ? 1 + Math.max(0, ...held.get(node.id).map(deep)) : 0);
	// An edge of dagre's joins no box that holds others: it goes to the first or from the last within.
	const within = (id, last) => {
		while (held.has(id)) {
			const ids = new Set(held.get(id).map((each) => each.id));
			const ends = held.get(id).filter((each) => !edges.some((edge) => (last ? edge.from === each.id && ids.has(edge.to) : edge.to === each.id && ids.has(edge.from))));
			id = (ends[0] ?? held.get(id)[0]).id;
		}
		return id;
	};
	const sizes = new Map();
	const wanted = new Map(); // a box is as wide as its title, by the room that its first step takes
	for (const node of nodes) {
		if (!held.has(node.id)) continue;
		const first = within(node.id, false);
		wanted.set(first, Math.max(wanted.get(first) ?? 0, Math.min(title(node).length, 44) * 6.4 - 4));
	}
	for (const node of nodes) {
		if (held.has(node.id)) {
			graph.setNode(node.id, {});
			continue;
		}
		const text = lines(node);
		const many = counted && node.id.includes('[*]'); // room for how often
		const width = Math.max(many ? 190 : 90, ...text.map((each, k) => each.length * (k ? 6.4 : 7.4) + 28));
		const height = (text.length + many) * LINE + 14;
		sizes.set(node.id, {width, height});
		graph.setNode(node.id, {width: Math.max(width, wanted.get(node.id) ?? 0), height});
	}
	for (const node of nodes) if (node.parent) graph.setParent(node.id, node.parent);
	edges.forEach((edge, k) => graph.setEdge(within(edge.from, true), within(edge.to, false), {
		...(edge.label ? {label: cut(visible(edge.label), 40), width: Math.min(edge.label.length, 40) * 6.2, height: 14, labelpos: 'c'} : {}),
	}, String(k)));
	dagre.layout(graph);
	return {graph, sizes, deep, held};
}

const curve = (points) => {
	const [first, ...rest] = points;
	let path = `M${first.x} ${first.y}`;
	for (let k = 0; k < rest.length - 1; k += 1) path += `Q${rest[k].x} ${rest[k].y} ${(rest[k].x + rest[k + 1].x) / 2} ${(rest[k].y + rest[k + 1].y) / 2}`;
	const last = rest[rest.length - 1];
	return `${path}L${last.x} ${last.y}`;
};

export const useFlow = (name) => useData((signal) => api(`/flows/${inPath(name)}`, {signal}), [name]);

// `flow` is from `useFlow`. `states`: {place: {state, done, all, ms}} of a run; `pick(place)` is called for a node that is clicked.
export function FlowGraph({name, flow: it, states, picked, pick}) {
	const [dagre, setDagre] = useState(null);
	useEffect(() => { import('../vendor/dagre.js').then(setDagre, () => setDagre({failed: true})); }, []);
	const made = useMemo(() => (dagre?.layout && it.data?.nodes?.length ? layout(dagre, it.data, Boolean(states)) : null), [dagre, it.data, Boolean(states)]);
	if (it.data && !it.data.nodes.length) return html`<p class="muted note">No drawing: ${visible(it.data.reason ?? 'it has no steps')}.</p>`;
	if (it.error || dagre?.failed) return html`<${Panel} title="Graph"><${Trouble} error=${it.error ?? new Error('The drawing could not be loaded')} retry=${it.reload} /><//>`;
	if (!made) return html`<${Panel} title="Graph"><p class="loading" role="status"><i aria-hidden></i>Drawing the flow …</p><//>`;
	const {graph, sizes, deep, held} = made;
	const {width, height} = graph.graph();
	const boxes = it.data.nodes.filter((each) => held.has(each.id));
	const plain = it.data.nodes.filter((each) => !held.has(each.id));
	const at = (node) => (node.kind === 'branch' ? null : place(node.id));
	const known = (node) => {
		if (node.kind !== 'branch') return states?.[at(node)];
		const found = it.data.nodes.filter((each) => each.parent === node.id).map((each) => known(each)?.state).filter(Boolean);
		return found.length ? {state: worst(found), all: 1} : undefined;
	};
	const count = (state) => (state?.all > 1 ? `, ${state.done} of ${state.all} ended${state.failed ? `, ${state.failed} failed` : ''}` : '');
	const said = (node) => {
		const state = known(node);
		return state ? `${state.state}${count(state)}${state.ms != null ? `, ${span(state.ms)}` : ''}` : '';
	};
	const act = (node) => (pick && at(node) && known(node) ? {role: 'button', tabindex: 0, 'aria-pressed': picked === at(node), onClick: () => pick(at(node)),
		onKeyDown: (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); pick(at(node)); } }} : {role: 'img'});
	return html`<${Panel} title="Graph"><div class="graph" tabindex="0" role="group" aria-label=${`Graph of ${name}`}><svg width=${width} style=${{minWidth: `${Math.min(width, 200 + width * 0.4)}px`}} viewBox=${`0 0 ${width} ${height}`}>
		<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8Z" /></marker></defs>
		${boxes.map((node) => {
			const box = graph.node(node.id);
			const state = known(node);
			return html`<g key=${node.id} class=${`box ${state?.state ?? ''} ${picked && picked === at(node) ? 'picked' : ''}`} ...${act(node)} aria-label=${`${title(node)} ${said(node)}`}>
				<rect x=${box.x - box.width / 2} y=${box.y - box.height / 2 - TITLE * deep(node)} width=${box.width} height=${box.height + TITLE * deep(node) + 2} rx="8" /></g>`;
		})}
		${graph.edges().map((edge) => {
			const {points, label, x, y} = graph.edge(edge);
			return html`<g key=${edge.name} class="edge"><path d=${curve(points)} marker-end="url(#tip)" />${label && html`<text x=${x} y=${y + 4} text-anchor="middle">${label}</text>`}</g>`;
		})}
		${boxes.map((node) => {
			const box = graph.node(node.id);
			return html`<text key=${node.id} class="title" x=${box.x - box.width / 2 + 9} y=${box.y - box.height / 2 - TITLE * (deep(node) - 1) - 2}><title>${whole(node)}</title>${cut(title(node), Math.max(10, Math.floor((box.width - 14) / 6.2)))}</text>`;
		})}
		${plain.map((node) => {
			const {x, y} = graph.node(node.id);
			const {width: wide, height: high} = sizes.get(node.id);
			const state = known(node);
			const text = [...lines(node), state?.all > 1 ? count(state).slice(2) : ''].filter(Boolean);
			return html`<g key=${node.id} class=${`node ${node.role === 'failure' ? 'aside' : ''} ${state?.state ?? (states ? 'unseen' : '')} ${picked && picked === at(node) ? 'picked' : ''}`} ...${act(node)} aria-label=${`${text.join(' ')} ${state?.state ?? ''}`}>
				<rect x=${x - wide / 2} y=${y - high / 2} width=${wide} height=${high} rx="7" /><title>${whole(node)}${said(node) && ` – ${said(node)}`}</title>
				${text.map((each, k) => html`<text key=${k} class=${k ? 'small' : ''} x=${x} y=${y - (text.length * LINE) / 2 + 13 + k * LINE} text-anchor="middle">${each}</text>`)}</g>`;
		})}</svg></div>${it.data.reason && html`<p class="muted note">${visible(it.data.reason)}</p>`}<//>`;
}
