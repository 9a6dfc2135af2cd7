// Values as people read them: every number with its unit, every time in the reader's zone.

const whole = new Intl.NumberFormat(undefined, {maximumFractionDigits: 0});
const tenths = new Intl.NumberFormat(undefined, {maximumFractionDigits: 1});
const hundredths = new Intl.NumberFormat(undefined, {maximumFractionDigits: 2});
const time = new Intl.DateTimeFormat(undefined, {hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23'});
const day = new Intl.DateTimeFormat(undefined, {day: 'numeric', month: 'short'});
const year = new Intl.DateTimeFormat(undefined, {day: 'numeric', month: 'short', year: 'numeric'});

export const NONE = '–';

export const number = (n) => (n == null ? NONE : Math.abs(n) < 10 && n % 1 ? hundredths.format(n) : Math.abs(n) < 1000 ? tenths.format(n) : whole.format(n));

export const sum = (values) => (values ?? []).reduce((all, each) => all + (each ?? 0), 0);

export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

export function span(ms) {
	if (ms == null || Number.isNaN(ms)) return NONE;
	if (ms < 0) ms = 0;
	if (ms < 1000) return `${ms < 10 ? hundredths.format(ms) : whole.format(ms)} ms`;
	const s = ms / 1000;
	if (s < 60) return `${s < 10 ? hundredths.format(s) : tenths.format(s)} s`;
	const pair = (a, unit, b, small) => (b ? `${a} ${unit} ${b} ${small}` : `${a} ${unit}`);
	const r = Math.round(s);
	if (r < 3600) return pair(Math.floor(r / 60), 'min', r % 60, 's');
	const m = Math.round(s / 60);
	if (m < 2880) return pair(Math.floor(m / 60), 'h', m % 60, 'min');
	const h = Math.round(s / 3600);
	return pair(whole.format(Math.floor(h / 24)), 'd', h < 720 ? h % 24 : 0, 'h');
}

export const UNITS = {w: 604800, d: 86400, h: 3600, m: 60, s: 1};
// A span as people write it, in seconds; the error has the field in which it was written.
export function seconds(text, field) {
	const match = /^(\d+(?:\.\d+)?)\s*([smhdw]?)$/.exec(text.trim());
	if (!match) throw Object.assign(new Error('is a time such as 30s, 10m, 2h or 1d'), {field});
	return match[1] * UNITS[match[2] || 's'];
}
export const every = (length) => { const unit = Object.keys(UNITS).find((each) => length % UNITS[each] === 0) ?? 's'; return length / UNITS[unit] + unit; };

// A coarse span that does not flicker: whole seconds and above.
export const coarse = (ms) => (ms < 1000 ? '0 s' : span(ms < 60000 ? Math.floor(ms / 1000) * 1000 : ms));

export function ago(iso, now = Date.now()) {
	const ms = now - Date.parse(iso);
	if (ms >= -999 && ms < 1000) return 'just now';
	return ms > 0 ? `${coarse(ms)} ago` : `in ${coarse(-ms)}`;
}

export function clock(iso, now = new Date()) {
	const at = new Date(iso);
	const same = at.toDateString() === now.toDateString();
	const date = same ? '' : `${(at.getFullYear() === now.getFullYear() ? day : year).format(at)}, `;
	return date + time.format(at);
}

export const exact = (iso) => `${new Date(iso).toISOString().replace('T', ' ').replace('Z', '')} UTC`;

export const millis = (ms) => `${time.format(ms)}.${String(Math.floor(ms % 1000)).padStart(3, '0')}`;

export function bytes(n) {
	if (n == null) return NONE;
	for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
		if (n < 1024 || unit === 'GiB') return `${n < 10 && unit !== 'B' ? tenths.format(n) : whole.format(n)} ${unit}`;
		n /= 1024;
	}
}

export const percent = (share) => (share == null ? NONE : `${share > 0 && share < 0.01 ? '<1' : whole.format(share * 100)} %`);

// The end of a UUIDv7 is what tells two of the same moment apart.
export const short = (id) => id.slice(-12);

// Control and direction characters as something visible: text must not be able to lie about itself.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
const seen = (c) => {
	const n = c.charCodeAt(0);
	return n < 256 ? `\\x${n.toString(16).padStart(2, '0')}` : `\\u${n.toString(16).padStart(4, '0')}`;
};
export const visible = (text) => String(text).replace(HIDDEN, seen);
