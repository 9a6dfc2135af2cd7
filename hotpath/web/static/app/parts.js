// What every view is made of.
import {html, useEffect, useRef, useState} from '../vendor/preact.js';
import {ago, clock, exact, NONE, short, visible} from './format.js';
import {useNow} from './data.js';
import {inPath} from './router.js';

export const STATES = ['queued', 'running', 'success', 'failure', 'canceled'];
const CROSS = 'm4 4 8 8m0-8-8 8';
const ICONS = {
	queued: 'M8 4v4l2.5 1.5M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z', running: 'M5 3.5v9l7.5-4.5Z', success: 'm3 8.5 3.5 3.5L13 4.5', failure: CROSS,
	canceled: 'M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0ZM4 4l8 8', waiting: 'M5.5 3.5v9m5-9v9', idle: 'M12 8a4 4 0 1 1-8 0 4 4 0 0 1 8 0Z', lost: CROSS, skipped: 'M4 8h8',
	copy: 'M6 5.5h7v8H6ZM10 5.5v-3H3v8h3', theme: 'M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0ZM8 2v12M8 2a6 6 0 0 1 0 12', close: CROSS, up: 'm4 10 4-4 4 4', down: 'm4 6 4 4 4-4',
};
export const Icon = ({of}) => html`<svg class=${`icon i-${of}`} viewBox="0 0 16 16" aria-hidden><path d=${ICONS[of] ?? ICONS.skipped} /></svg>`;

export const State = ({of, children}) => html`<span class=${`state ${of}`}><${Icon} of=${of} />${children ?? of}</span>`;

// A time: how long ago, or the clock; the exact one in UTC is its title.
export function Time({at, relative = false, now}) {
	if (!at) return html`<span class="none">${NONE}</span>`;
	return html`<time datetime=${at} title=${exact(at)}>${relative ? ago(at, now) : clock(at)}</time>`;
}

export function Ago({at}) {
	const now = useNow();
	return html`<${Time} at=${at} relative now=${now} />`;
}

export function Copy({text, label = 'Copy', children}) {
	const [done, set] = useState('');
	useEffect(() => {
		if (!done) return undefined;
		const timer = setTimeout(() => set(''), 1500);
		return () => clearTimeout(timer);
	}, [done]);
	const copy = async () => set(await toClipboard(typeof text === 'function' ? text() : text) ? 'Copied' : 'Not allowed');
	return html`<button class="copy" title=${typeof text === 'function' ? label : text} aria-label=${label} onClick=${copy}>
		${children}<span class="said" role="status">${done || (children ? html`<${Icon} of="copy" />` : label)}</span></button>`;
}

async function toClipboard(text) {
	try {
		await navigator.clipboard.writeText(text);
		return true;
	} catch { // no permission, or plain http: the old way
		const area = document.createElement('textarea');
		area.value = text;
		(document.querySelector('dialog[open]') ?? document.body).append(area);
		area.select();
		const done = document.execCommand('copy');
		area.remove();
		return done;
	}
}

export const Id = ({id, what = 'id'}) => html`<${Copy} text=${id} label=${`Copy the ${what} ${id}`}><code>${short(id)}</code><//>`;

export const Loading = ({what = 'Loading'}) => html`<p class="loading" role="status"><i aria-hidden></i>${what} …</p>`;

export const Empty = ({title, children}) => html`<div class="empty"><strong>${title}</strong>${children && html`<p>${children}</p>`}</div>`;

export function Trouble({error, retry, since}) {
	if (!error) return null;
	return html`<div class="trouble" role="alert"><strong>${error.title ?? 'Something went wrong'}</strong>
		<span>${visible(error.message)}${since ? html` What you see is from <${Time} at=${new Date(since).toISOString()} />.` : ''}</span>
		${retry && html`<button onClick=${retry}>Try again</button>`}</div>`;
}

// The head of a table; names of numbers begin with `>`.
export const Head = ({of}) => html`<thead><tr>${of.map((name) => html`<th scope="col" class=${name[0] === '>' ? 'right' : ''}>${name.replace('>', '')}</th>`)}</tr></thead>`;

// A table whose rows are cards where it is narrow.
export function Cards({of, children}) {
	const ref = useRef();
	useEffect(() => { // each cell has its column's name, which is read where there is no head
		for (const {cells} of ref.current.tBodies[0].rows) for (let k = 1; k < cells.length; k += 1) cells[k].dataset.l = of[k].replace('>', '').toLowerCase();
	});
	return html`<div class="table"><table class="cards" ref=${ref}><${Head} of=${of} /><tbody>${children}</tbody></table></div>`;
}

// The way to a script's own view, or a flow's.
export const Script = ({of, kind, ...more}) => html`<a class="script" href=${`/${kind === 'flow' ? 'flows' : 'scripts'}/${inPath(of)}`} ...${more}>${visible(of)}</a>`;
export const Run = ({of}) => html`<a href=${`/jobs/${of}`} title=${of}><code>${short(of)}</code></a>`;

// The words by which a list is searched, and whether a text has all of them.
export const has = (text, words) => words.toLowerCase().split(/\s+/).every((word) => text.toLowerCase().includes(word));
export const Find = ({words, set, among, children}) => html`<form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}><label><span>Find</span>
	<input type="search" data-search placeholder=${among} value=${words} onInput=${(event) => set(event.target.value)} /></label>${children}</form>`;

// Data that is loading, missing or there: one rule for all views.
export function Shown({it, what, children}) {
	const there = it.data !== undefined;
	return html`<div class="all"><${Trouble} error=${it.error} retry=${it.reload} since=${there ? it.at : 0} />${there ? children(it.data) : !it.error && html`<${Loading} what=${what} />`}</div>`;
}

export function Panel({title, aside, children, name, tone}) {
	return html`<section class=${`panel ${tone ?? ''}`} aria-label=${typeof title === 'string' ? title : name}>
		<header><h2>${title}</h2>${aside && html`<div class="aside">${aside}</div>`}</header>${children}</section>`;
}

export const Facts = ({of}) => html`<dl class="facts">${of.filter(Boolean).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value ?? NONE}</dd></div>`)}</dl>`;

// A dialog of the browser's own: it keeps the focus, Esc closes it.
export function Dialog({title, close, children}) {
	const ref = useRef();
	useEffect(() => {
		const before = document.activeElement;
		ref.current.showModal();
		ref.current.querySelector('.first input, form :is(input, select, textarea)')?.focus();
		return () => before?.focus?.();
	}, []);
	return html`<dialog ref=${ref} onClose=${close} aria-label=${title} onMouseDown=${(event) => event.target === ref.current && ref.current.close()}>
		<div class="sheet"><header><h2>${title}</h2><button class="plain" aria-label="Close" onClick=${() => ref.current.close()}><${Icon} of="close" /></button></header>${children}</div></dialog>`;
}

// A button whose work takes a while; what goes wrong is said beside it.
export function Act({children, act, tone = '', title, disabled, id}) {
	const [busy, setBusy] = useState(false);
	const [said, setSaid] = useState(null);
	const run = async () => {
		setBusy(true);
		setSaid(null);
		try {
			setSaid((await act()) ?? null);
		} catch (error) {
			setSaid(error);
		}
		setBusy(false);
	};
	return html`<span class="act"><button id=${id} class=${tone} title=${title} disabled=${busy || disabled} aria-busy=${busy} onClick=${run}>${children}</button>
		${said && html`<span role="status" class=${said instanceof Error ? 'bad' : 'muted'}>${said instanceof Error ? visible(said.message) : said}</span>`}</span>`;
}

// Asks once more, in its own place.
export function Sure({does = 'Delete', name, act, children}) {
	const [sure, set] = useState(false);
	if (!sure) return html`<button class="danger" onClick=${() => set(true)}>${does} …</button>`;
	return html`<span class="act" role="group" aria-label=${`${does} ${name}?`}>${children}<${Act} tone="danger" act=${act}>${does} ${visible(name)}<//><button onClick=${() => set(false)}>Keep it</button></span>`;
}

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const MOST = 20_000; // characters that are shown at once

function coloured(text) {
	const parts = [];
	let last = 0;
	for (const match of text.matchAll(TOKEN)) {
		if (match.index > last) parts.push(text.slice(last, match.index));
		const kind = match[2] ? 'key' : match[1] ? 'text' : 'value';
		parts.push(html`<span class=${`j-${kind}`}>${match[1] ?? match[0]}</span>`, match[2] ?? '');
		last = match.index + match[0].length;
	}
	parts.push(text.slice(last));
	return parts;
}

export function Json({value, label}) {
	const [all, setAll] = useState(false);
	if (value === undefined) return html`<p class="muted pad">${NONE}</p>`;
	const text = JSON.stringify(value, null, 2);
	const cut = !all && text.length > MOST;
	const shown = visible(cut ? text.slice(0, MOST) : text);
	return html`<div class="json"><pre tabindex="0" aria-label=${label}>${shown.length > 200_000 ? shown : coloured(shown)}</pre>
		${cut && html`<button onClick=${() => setAll(true)}>Show all ${text.length.toLocaleString()} characters</button>`}
		<${Copy} text=${() => text} label="Copy" /></div>`;
}
