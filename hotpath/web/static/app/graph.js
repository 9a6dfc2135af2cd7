// A flow as a graph: dagre says where things go, the states of a run colour them.
import {html, useEffect, useMemo, useState} from '../vendor/preact.js';
import {api, useData} from './data.js';
import {inPath} from './router.js';
import {plural, span, visible} from './format.js';
import {Panel, Trouble} from './parts.js';

const LINE = 17;
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const lines = (node) => String(node.label ?? node.id).split(/\n|<br\/?>/).map((each) => cut(visible(each), 34));

// A step's key without numbers of iterations and tries: where it stands in the graph.
export const place = (key) => key.replace(/\[[^\]]*\]/g, '').replace(/~\d+/g, '').replace(/#\d+/g, '');

const ORDER = ['failure', 'running', 'waiting', 'queued', 'canceled', 'success'];
export const worst = (states) => ORDER.find((each) => states.includes(each));

function layout(dagre, {nodes, edges}) {
  const graph = new dagre.Graph({compound: true, multigraph: true});
  graph.setGraph({rankdir: 'TB', nodesep: 26, ranksep: 30, marginx: 8, marginy: 8});
  graph.setDefaultEdgeLabel(() => ({}));
  const inner = new Set(nodes.map((each) => each.parent).filter(Boolean));
  for (const node of nodes) {
    const text = lines(node);
    const width = Math.max(90, ...text.map((each, k) => each.length * (k ? 6.4 : 7.4) + 28));
    graph.setNode(node.id, inner.has(node.id) ? {} : {width, height: text.length * LINE + 16});
  }
  for (const node of nodes) if (node.parent) graph.setParent(node.id, node.parent);
  // An edge of dagre's joins no box that holds others: it goes to the first or from the last within.
  const within = (id, last) => {
    for (;;) {
      const held = nodes.filter((each) => each.parent === id);
      if (!held.length) return id;
      const ids = new Set(held.map((each) => each.id));
      const ends = held.filter((each) => !edges.some((edge) => (last ? edge.from === each.id && ids.has(edge.to) : edge.to === each.id && ids.has(edge.from))));
      id = (ends[0] ?? held[0]).id;
    }
  };
  edges.forEach((edge, k) => graph.setEdge(within(edge.from, true), within(edge.to, false), {
    ...(edge.label ? {label: cut(visible(edge.label), 40), width: Math.min(edge.label.length, 40) * 6.2, height: 14, labelpos: 'c'} : {}),
  }, String(k)));
  dagre.layout(graph);
  return {graph, inner};
}

const curve = (points) => {
  const [first, ...rest] = points;
  let path = `M${first.x} ${first.y}`;
  for (let k = 0; k < rest.length - 1; k += 1) path += `Q${rest[k].x} ${rest[k].y} ${(rest[k].x + rest[k + 1].x) / 2} ${(rest[k].y + rest[k + 1].y) / 2}`;
  const last = rest[rest.length - 1];
  return `${path}L${last.x} ${last.y}`;
};

// `states`: {place: {state, done, all, ms}} of a run; `pick(place)` is called for a node that is clicked.
export function FlowGraph({name, states, picked, pick}) {
  const it = useData((signal) => api(`/flows/${inPath(name)}`, {signal}), [name]);
  const [dagre, setDagre] = useState(null);
  useEffect(() => { import('../vendor/dagre.js').then(setDagre, () => setDagre({failed: true})); }, []);
  const made = useMemo(() => (dagre?.layout && it.data?.nodes?.length ? layout(dagre, it.data) : null), [dagre, it.data]);
  if (it.error?.status === 404 || it.error?.status === 422 || (it.data && !it.data.nodes.length)) return null; // written as code: it has no drawing
  if (it.error || dagre?.failed) return html`<${Panel} title="Graph"><${Trouble} error=${it.error ?? new Error('The drawing could not be loaded')} retry=${it.reload} /><//>`;
  if (!made) return html`<${Panel} title="Graph"><p class="loading" role="status"><i aria-hidden="true"></i>Drawing the flow …</p><//>`;
  const {graph, inner} = made;
  const {width, height} = graph.graph();
  const boxes = it.data.nodes.filter((each) => inner.has(each.id));
  const plain = it.data.nodes.filter((each) => !inner.has(each.id));
  const depth = (node) => (node.parent ? 1 + depth(it.data.nodes.find((each) => each.id === node.parent) ?? {}) : 0);
  const known = (node) => states?.[node.step ?? node.id];
  const said = (node) => {
    const state = known(node);
    return state ? `${state.state}${state.all > 1 ? `, ${state.done} of ${plural(state.all, 'time')}` : ''}${state.ms != null ? `, ${span(state.ms)}` : ''}` : '';
  };
  const act = (node) => (pick && known(node) ? {role: 'button', tabindex: 0, 'aria-pressed': picked === (node.step ?? node.id), onClick: () => pick(node.step ?? node.id),
    onKeyDown: (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); pick(node.step ?? node.id); } }} : {});
  return html`<${Panel} title="Graph"><div class="graph" tabindex="0" role="group" aria-label=${`Graph of ${name}`}><svg width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`}>
    <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8Z" /></marker></defs>
    ${boxes.sort((a, b) => depth(a) - depth(b)).map((node) => {
      const at = graph.node(node.id);
      const state = known(node);
      return html`<g key=${node.id} class=${`box ${state?.state ?? ''} ${picked === (node.step ?? node.id) ? 'picked' : ''}`} ...${act(node)} aria-label=${`${lines(node).join(', ')}${said(node) && `: ${said(node)}`}`}>
        <rect x=${at.x - at.width / 2} y=${at.y - at.height / 2 - 12} width=${at.width} height=${at.height + 12} rx="8" /><text x=${at.x - at.width / 2 + 10} y=${at.y - at.height / 2 + 4}><title>${visible(node.label ?? node.id)}</title>${cut(lines(node).slice(0, 2).join(' · '), Math.max(12, Math.floor((at.width - 24) / 6.6)))}${state?.all > 1 ? ` (${state.done}/${state.all})` : ''}</text></g>`;
    })}
    ${graph.edges().map((edge) => {
      const {points, label, x, y} = graph.edge(edge);
      return html`<g key=${edge.name} class="edge"><path d=${curve(points)} marker-end="url(#tip)" />${label && html`<text x=${x} y=${y + 4} text-anchor="middle">${label}</text>`}</g>`;
    })}
    ${plain.map((node) => {
      const at = graph.node(node.id);
      const state = known(node);
      const text = lines(node);
      return html`<g key=${node.id} class=${`node k-${node.kind ?? ''} ${state?.state ?? (states ? 'unseen' : '')} ${picked === (node.step ?? node.id) ? 'picked' : ''}`} ...${act(node)} aria-label=${`${text.join(', ')}${said(node) && `: ${said(node)}`}`}>
        <rect x=${at.x - at.width / 2} y=${at.y - at.height / 2} width=${at.width} height=${at.height} rx=${node.kind === 'start' || node.kind === 'end' ? at.height / 2 : 7} /><title>${visible(node.label ?? node.id)}${said(node) && ` – ${said(node)}`}</title>
        ${text.map((each, k) => html`<text key=${k} class=${k ? 'small' : ''} x=${at.x} y=${at.y - (text.length * LINE) / 2 + 13 + k * LINE} text-anchor="middle">${each}</text>`)}</g>`;
    })}</svg></div><//>`;
}
