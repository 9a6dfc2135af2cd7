// A job's log: live, coloured, searchable, and as quick at 100,000 lines as at ten: only the rows that are seen
// are in the document.
import {html, useEffect, useLayoutEffect, useMemo, useRef, useState} from '../vendor/preact.js';
import {look, PLAIN} from './ansi.js';
import {api, useStatus} from './data.js';
import {millis, plural} from './format.js';
import {LogText, Rows} from './logtext.js';
import {Empty, Icon, Loading, Panel, Trouble} from './parts.js';
import {subscribe} from './socket.js';

const ROW = 19; // px, as in style.css
const SPARE = 12; // rows drawn above and below what is seen
const TALLEST = 8_000_000; // px that browsers scroll without trouble; longer logs scroll in bigger steps
const LONGEST = 2000; // characters of an unwrapped line that are drawn

const remembered = (name, otherwise) => { try { return JSON.parse(localStorage.getItem(name)) ?? otherwise; } catch { return otherwise; } };
const remember = (name, value) => { try { localStorage.setItem(name, JSON.stringify(value)); } catch { /* not kept */ } };

// The text so far, and a number that grows with it.
function useLog(job, ended) {
	const text = useMemo(() => new LogText(), [job]);
	const [state, set] = useState({version: 0, loaded: false, error: null});
	const live = useStatus() === 'live';
	useEffect(() => {
		const stop = new AbortController();
		let frame = 0;
		let timer = 0;
		let leave = null;
		let asks = !live; // by HTTP, where nothing is pushed
		const changed = () => { frame ||= requestAnimationFrame(() => { frame = 0; set((old) => ({...old, version: old.version + 1})); }); };
		const read = async () => {
			for (;;) {
				const [attempt, from] = text.after() ?? [];
				const page = await api(`/jobs/${job}/log`, {query: {attempt, from}, signal: stop.signal});
				page.chunks.forEach((chunk) => (chunk.gap ? text.gap(chunk) : text.append(chunk)));
				changed();
				const after = text.after();
				if (!page.next || !page.chunks.length || (after && after[0] === attempt && after[1] === from)) return;
			}
		};
		const begin = async () => {
			try {
				await read();
				set((old) => ({...old, loaded: true, error: null}));
			} catch (error) {
				if (error.name === 'AbortError') return;
				set((old) => ({...old, loaded: true, error}));
				timer = setTimeout(begin, 2000);
				return;
			}
			if (stop.signal.aborted || ended) return;
			if (asks) {
				timer = setTimeout(begin, 1000);
				return;
			}
			leave = subscribe('log', () => ({job, after: text.after()}), (event) => {
				if (event.type === 'log') text.append(event);
				else if (event.type === 'gap') text.gap(event);
				else if (event.type === 'error') {
					asks = true;
					begin();
				} else return;
				changed();
			});
		};
		begin();
		return () => {
			stop.abort();
			cancelAnimationFrame(frame);
			clearTimeout(timer);
			leave?.();
		};
	}, [job, ended, live]);
	return {text, live, ...state};
}

// Lines that have the words, as numbers; looks only at what has come since the last time.
function useMatches(text, version, words) {
	const kept = useRef({words: '', text: null, upTo: 0, found: []});
	const it = kept.current;
	if (it.words !== words || it.text !== text) Object.assign(it, {words, text, upTo: 0, found: []});
	if (words) {
		const wanted = words.toLowerCase();
		const end = text.lines.length;
		while (it.found.length && it.found[it.found.length - 1] >= it.upTo) it.found.pop();
		for (let k = it.upTo; k < end; k += 1) if (text.lines[k].plain.toLowerCase().includes(wanted)) it.found.push(k);
		it.upTo = Math.max(end - 1, 0); // the last line may grow
	}
	return it.found;
}

// Where the words are in a row of a line: [from, to] pairs, in characters of the line.
function found(plain, words, from, to) {
	const wanted = words.toLowerCase();
	const start = Math.max(from - wanted.length, 0);
	const low = plain.slice(start, to + wanted.length).toLowerCase();
	const ranges = [];
	for (let at = low.indexOf(wanted); wanted && at >= 0; at = low.indexOf(wanted, at + wanted.length)) ranges.push([start + at, start + at + wanted.length]);
	return ranges;
}

// The parts of a line between two characters, parted also where something found begins or ends.
function cut(parts, from, to, ranges) {
	const pieces = [];
	let at = 0;
	for (const {text, style} of parts) {
		const end = at + text.length;
		let k = Math.max(at, from);
		while (k < Math.min(end, to)) {
			const range = ranges.find(([, last]) => last > k);
			const hit = range && range[0] <= k;
			const stop = Math.min(end, to, range ? range[hit ? 1 : 0] : to);
			pieces.push({text: text.slice(k - at, stop - at), style, hit});
			k = stop;
		}
		if (end >= to) break;
		at = end;
	}
	return pieces;
}

function Row({text, line, from, to, words, times, current}) {
	if (line.note) return html`<div class="row note">${line.note}</div>`;
	const first = from === 0;
	const more = to < line.plain.length && to - from === LONGEST;
	return html`<div class=${`row ${current ? 'current' : ''}`}>
		<span class="gutter" aria-hidden>${first ? line.number : ''}</span>${times && html`<span class="stamp">${first && line.time ? millis(line.time) : ''}</span>`}<span class="said">${cut(text.parts(line), from, to, words ? found(line.plain, words, from, to) : []).map(({text: part, style, hit}) => {
			const how = look(style);
			if (hit) return html`<mark ...${how}>${part}</mark>`;
			return style === PLAIN ? part : html`<span ...${how}>${part}</span>`;
		})}${more && html`<span class="muted"> … ${plural(line.plain.length - to, 'more character')}: turn on Wrap</span>`}</span></div>`;
}

export function Log({job, ended, state}) {
	const {text, version, live, loaded, error} = useLog(job, ended);
	const [words, setWords] = useState('');
	const [at, setAt] = useState(-1); // which match
	const [wrap, setWrap] = useState(() => remembered('log-wrap', true));
	const [times, setTimes] = useState(() => remembered('log-times', false));
	const [follow, setFollow] = useState(!ended);
	const [view, setView] = useState({top: 0, height: 0, columns: 100});
	const box = useRef();
	const ruler = useRef();
	const rows = useMemo(() => new Rows(text), [text]);
	const matches = useMatches(text, version, words);
	const total = rows.fit(wrap ? view.columns : 0);
	const full = total * ROW;
	const tall = Math.min(full, TALLEST);
	const scale = full > tall ? (full - view.height) / Math.max(tall - view.height, 1) : 1;

	useEffect(() => {
		const element = box.current;
		if (!element) return undefined;
		const measure = () => {
			const [gutter, stamp, said] = [...ruler.current.parentElement.children].map((each) => each.getBoundingClientRect().width);
			const columns = Math.max(20, Math.floor((element.clientWidth - gutter - (times ? stamp : 0) - 16) / (said / 50)));
			setView((old) => (old.height === element.clientHeight && old.columns === columns ? old : {...old, height: element.clientHeight, columns}));
		};
		const observer = new ResizeObserver(measure);
		observer.observe(element);
		observer.observe(ruler.current.parentElement);
		measure();
		return () => observer.disconnect();
	}, [times, loaded, text.lines.length > 0]);

	useLayoutEffect(() => {
		if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
	}, [follow, total, view.height, wrap]);

	const scrolled = () => {
		const element = box.current;
		const bottom = element.scrollHeight - element.clientHeight - element.scrollTop < 2;
		setFollow((old) => (bottom ? !ended || old : false));
		setView((old) => ({...old, top: element.scrollTop}));
	};
	const show = (line) => {
		setFollow(false);
		const top = rows.starts[line] * ROW - view.height / 2;
		box.current.scrollTop = Math.max(top / scale, 0);
	};
	const turn = (by) => {
		if (!matches.length) return;
		const next = at < 0 ? (by > 0 ? 0 : matches.length - 1) : (at + by + matches.length) % matches.length;
		setAt(next);
		show(matches[next]);
	};
	useEffect(() => {
		setAt(-1);
		if (words && matches.length) {
			setAt(0);
			show(matches[0]);
		}
	}, [words]);
	const latest = useRef();
	latest.current = turn;
	useEffect(() => {
		const pressed = (event) => {
			if (event.target.closest?.('input, textarea, select, dialog') || event.ctrlKey || event.metaKey || event.altKey) return;
			if (event.key === 'n') latest.current(1);
			if (event.key === 'N') latest.current(-1);
		};
		addEventListener('keydown', pressed);
		return () => removeEventListener('keydown', pressed);
	}, []);

	const firstRow = Math.max(Math.floor((view.top * scale) / ROW) - SPARE, 0);
	const lastRow = Math.min(firstRow + Math.ceil(view.height / ROW) + 2 * SPARE, total);
	const drawn = [];
	let line = total ? rows.lineAt(Math.min(firstRow, total - 1)) : 0;
	for (let row = firstRow; row < lastRow; row += 1) {
		while (rows.starts[line + 1] <= row) line += 1;
		const inner = row - rows.starts[line];
		const from = wrap ? inner * view.columns : 0;
		drawn.push(html`<${Row} key=${row} text=${text} line=${text.lines[line]} from=${from} to=${wrap ? from + view.columns : LONGEST}
			words=${words} times=${times} current=${at >= 0 && matches[at] === line} />`);
	}
	const offset = scale === 1 ? firstRow * ROW : view.top - (view.top * scale - firstRow * ROW);
	const toggle = (name, value, set) => () => { set(!value); remember(name, !value); };
	const {count} = text;
	const bar = html`<div class="logbar">
		<label class="find"><span class="hide">Search the log</span><input type="search" data-search placeholder="Search  ( / )" value=${words}
			onInput=${(event) => setWords(event.target.value)} onKeyDown=${(event) => { if (event.key === 'Enter') { event.preventDefault(); turn(event.shiftKey ? -1 : 1); } }} /></label>
		${words && html`<span class="muted" role="status">${matches.length ? `${Math.max(at + 1, 1)} of ${plural(matches.length, 'line')}` : 'no line has it'}</span>
			<button class="plain" aria-label="Previous match" title="Previous (N)" onClick=${() => turn(-1)}><${Icon} of="up" /></button><button class="plain" aria-label="Next match" title="Next (n)" onClick=${() => turn(1)}><${Icon} of="down" /></button>`}
		<button aria-pressed=${wrap} onClick=${toggle('log-wrap', wrap, setWrap)}>Wrap</button>
		<button aria-pressed=${times} onClick=${toggle('log-times', times, setTimes)}>Times</button>
		${!ended && html`<button aria-pressed=${follow} onClick=${() => setFollow(!follow)}>Follow</button>`}
		<a class="button" href=${`/api/v1/jobs/${job}/log.txt`} download data-plain>Download</a></div>`;
	return html`<${Panel} title="Log" aside=${count ? html`<span class="muted">${plural(count, 'line')}${ended || !live ? '' : ', live'}</span>` : null}>
		${count > 0 && bar}
		<${Trouble} error=${error} />
		${!loaded && !count ? html`<${Loading} what="Reading the log" />` : count === 0 && !error ? html`<${Empty} title=${ended ? 'It printed nothing' : state === 'queued' ? 'Not started yet' : 'Nothing printed so far'}>${ended ? null : live ? 'What it prints appears here as it does.' : 'Without a live connection: once it is stored, at the latest at its end.'}<//>` : null}
		<div class="log" ref=${box} role="log" aria-label="Log" aria-live="off" tabindex="0" hidden=${!count} onScroll=${scrolled} style=${{height: `${Math.min(tall, 32 * ROW) + 14}px`}}>
			<div class="row ruler" aria-hidden><span class="gutter">0</span><span class="stamp">00:00:00.000</span><span ref=${ruler}>${'0'.repeat(50)}</span></div>
			<div class="tall" style=${{height: `${tall}px`}}><div class="rows" style=${{transform: `translateY(${offset}px)`}}>${drawn}</div></div>
		</div><//>`;
}
