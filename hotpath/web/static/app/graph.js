// A flow as a graph: layout.js says where things go, the states of a run colour them.
import {html, useMemo} from '../vendor/preact.js';
import {useApi} from './data.js';
import {inPath} from './router.js';
import {span, visible} from './format.js';
import {Panel, Trouble} from './parts.js';
import {layout} from './layout.js';

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

const TITLE = 18; // px over what is in a box

function draw(graph, counted) {
	return layout(graph, (node) => {
		const text = lines(node);
		const many = counted && node.id.includes('[*]'); // room for how often
		return {width: Math.max(many ? 190 : 90, ...text.map((each, k) => each.length * (k ? 6.4 : 7.4) + 28)), height: (text.length + many) * LINE + 14};
	}, (node) => ({width: Math.min(title(node).length, 44) * 6.4 + 14, height: TITLE}));
}

export const useFlow = (name) => useApi(`/flows/${inPath(name)}`);

// `flow` is from `useFlow`. `states`: {place: {state, done, all, ms}} of a run; `pick(place)` is called for a node that is clicked.
export function FlowGraph({name, flow: it, states, picked, pick}) {
	const made = useMemo(() => (it.data?.nodes?.length ? draw(it.data, Boolean(states)) : null), [it.data, Boolean(states)]);
	if (it.data && !it.data.nodes.length) return html`<p class="muted note">No drawing: ${visible(it.data.reason ?? 'it has no steps')}.</p>`;
	if (it.error) return html`<${Panel} title="Graph"><${Trouble} error=${it.error} retry=${it.reload} /><//>`;
	if (!made) return html`<${Panel} title="Graph"><p class="loading" role="status"><i aria-hidden></i>Drawing the flow …</p><//>`;
	const {width, height, at: put, lines: arrows} = made;
	const held = new Set(it.data.nodes.map((each) => each.parent));
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
			const box = put[node.id];
			const state = known(node);
			return html`<g key=${node.id} class=${`box ${state?.state ?? ''} ${picked && picked === at(node) ? 'picked' : ''}`} ...${act(node)} aria-label=${`${title(node)} ${said(node)}`}>
				<rect x=${box.x - box.width / 2} y=${box.y - box.height / 2} width=${box.width} height=${box.height} rx="8" /></g>`;
		})}
		${arrows.map(({edge, x, from, to}) => html`<g key=${`${edge.from} ${edge.to}`} class="edge"><path d=${`M${x} ${from}V${to}`} marker-end="url(#tip)" /></g>`)}
		${boxes.map((node) => {
			const box = put[node.id];
			return html`<text key=${node.id} class="title" x=${box.x - box.width / 2 + 9} y=${box.y - box.height / 2 + 15}><title>${whole(node)}</title>${cut(title(node), Math.max(10, Math.floor((box.width - 14) / 6.2)))}</text>`;
		})}
		${plain.map((node) => {
			const {x, y, width: wide, height: high} = put[node.id];
			const state = known(node);
			const text = [...lines(node), state?.all > 1 ? count(state).slice(2) : ''].filter(Boolean);
			return html`<g key=${node.id} class=${`node ${node.role === 'failure' ? 'aside' : ''} ${state?.state ?? (states ? 'unseen' : '')} ${picked && picked === at(node) ? 'picked' : ''}`} ...${act(node)} aria-label=${`${text.join(' ')} ${state?.state ?? ''}`}>
				<rect x=${x - wide / 2} y=${y - high / 2} width=${wide} height=${high} rx="7" /><title>${whole(node)}${said(node) && ` – ${said(node)}`}</title>
				${text.map((each, k) => html`<text key=${k} class=${k ? 'small' : ''} x=${x} y=${y - (text.length * LINE) / 2 + 13 + k * LINE} text-anchor="middle">${each}</text>`)}</g>`;
		})}</svg></div>${it.data.reason && html`<p class="muted note">${visible(it.data.reason)}</p>`}<//>`;
}
