// The text of a log as lines, in the order of (attempt, position), whatever way and how often it came.
import {carry, PLAIN, segments, strip} from './ansi.js';
import {plural} from './format.js';

const points = (text) => {
	if (!/[\ud800-\udbff]/.test(text)) return text.length;
	let n = text.length;
	for (let k = 0; k < text.length - 1; k += 1) if ((text.charCodeAt(k) & 0xfc00) === 0xd800 && (text.charCodeAt(k + 1) & 0xfc00) === 0xdc00) n -= 1;
	return n;
};
const behind = (text, count) => (points(text) === text.length ? text.slice(count) : [...text].slice(count).join(''));

// As a terminal leaves it: what is written over after a carriage return is gone.
const settled = (text) => {
	if (!text.includes('\r')) return text;
	const end = text.endsWith('\r') ? text.length - 1 : text.length;
	return text.slice(text.lastIndexOf('\r', end - 1) + 1, end);
};

export class LogText {
	constructor() {
		this.lines = [];
		this.count = 0; // of them, lines of the log: the others are notes of our own
		this.attempt = 0;
		this.position = 0;
		this.style = PLAIN;
		this.open = false; // whether the last line goes on
		this.last = 0; // time of what came last, epoch ms
		this.cache = new Map();
	}

	// Where to go on from.
	after() {
		return this.attempt ? [this.attempt, this.position] : null;
	}

	// The style goes on from line to line. An escape may have come in two pieces: it is read when the line is whole.
	settle() {
		const line = this.lines[this.lines.length - 1];
		if (line && !line.note) this.style = carry(line.text, line.style);
	}

	note(text) {
		this.settle();
		this.open = false;
		this.lines.push({note: text, text: '', plain: text, style: PLAIN, time: 0});
	}

	gap({attempt, at, end}) {
		this.reach(attempt, at);
		if (attempt < this.attempt || end <= this.position) return;
		this.note(`${plural(end - Math.max(at, this.position), 'character')} not kept`);
		this.position = end;
	}

	// Make `attempt` the current one, and say what is missing before `at`.
	reach(attempt, at) {
		if (attempt > this.attempt) {
			if (this.attempt) this.note(`Attempt ${attempt}`);
			this.attempt = attempt;
			this.position = 0;
			this.style = PLAIN;
		}
		if (attempt === this.attempt && at > this.position) {
			this.note(`${plural(at - this.position, 'character')} not kept`);
			this.position = at;
		}
	}

	append({attempt, at, text, times}) {
		if (attempt < this.attempt) return;
		this.reach(attempt, at);
		if (at < this.position) text = behind(text, this.position - at); // had it already
		if (!text) return;
		const stamps = times ?? [];
		let k = 0;
		const pieces = text.split('\n');
		pieces.forEach((piece, n) => {
			const last = n === pieces.length - 1;
			while (k < stamps.length && stamps[k][0] <= this.position) this.last = stamps[k++][1];
			if (piece || !last) this.add(piece);
			if (!last) this.open = false;
			this.position += points(piece) + (last ? 0 : 1);
		});
		while (k < stamps.length && stamps[k][0] < this.position) this.last = stamps[k++][1];
	}

	add(piece) {
		let line = this.lines[this.lines.length - 1];
		if (this.open) {
			this.cache.delete(line);
		} else {
			this.settle();
			line = {number: (this.count += 1), text: '', plain: '', style: this.style, time: this.last, odd: false};
			this.lines.push(line);
		}
		line.text += piece;
		line.odd ||= /[\r\u001b]/.test(piece);
		if (line.odd) {
			// What is written over goes now, so that a progress bar of hours is as short as it looks.
			const kept = settled(line.text);
			const gone = line.text.length - kept.length - (line.text.endsWith('\r') ? 1 : 0);
			if (gone) {
				line.style = carry(line.text.slice(0, gone), line.style);
				line.text = line.text.slice(gone);
			}
			line.plain = strip(kept);
		} else line.plain += strip(piece); // a line that only grows costs what is new
		this.open = true;
	}

	// Coloured parts of a line; the last few hundred are kept, since scrolling asks again and again.
	parts(line) {
		let found = this.cache.get(line);
		if (!found) {
			if (this.cache.size > 400) this.cache.clear();
			found = segments(settled(line.text), line.style);
			this.cache.set(line, found);
		}
		return found;
	}
}

// Which rows of the screen lines take, `columns` characters each.
export class Rows {
	constructor(text) {
		this.text = text;
		this.columns = 0;
		this.starts = [0]; // starts[k]: the first row of line k; one more than lines
	}

	fit(columns) {
		if (columns !== this.columns) {
			this.columns = columns;
			this.starts = [0];
		}
		const {lines} = this.text;
		const {starts} = this;
		if (starts.length > 1) starts.pop(); // the last line may have grown
		for (let k = starts.length - 1; k < lines.length; k += 1) {
			starts.push(starts[k] + (columns ? Math.max(1, Math.ceil(lines[k].plain.length / columns)) : 1));
		}
		return starts[lines.length];
	}

	lineAt(row) {
		const {starts} = this;
		let low = 0;
		let high = starts.length - 2;
		while (low < high) {
			const middle = (low + high + 1) >> 1;
			if (starts[middle] <= row) low = middle;
			else high = middle - 1;
		}
		return low;
	}
}
