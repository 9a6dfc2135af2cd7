// Terminal text as segments with classes. Only colours (SGR) mean anything; every other escape is shown as what
// it is. Nothing here makes HTML: segments become text nodes.
import {visible} from './format.js';

// Parameters are bounded so that no text makes this slow.
const SGR = /\u001b\[([\d;:]{0,64})m/g;
export const PLAIN = Object.freeze({fg: '', bg: '', bold: false, dim: false, italic: false, underline: false, strike: false, inverse: false});

const FLAGS = {1: ['bold', true], 2: ['dim', true], 3: ['italic', true], 4: ['underline', true], 7: ['inverse', true], 9: ['strike', true],
	23: ['italic', false], 24: ['underline', false], 27: ['inverse', false], 29: ['strike', false], 39: ['fg', ''], 49: ['bg', '']};

// 16 colours are classes, which fit the theme; of 256 and of 24 bits the value itself is used.
function far(codes, k) {
	if (codes[k + 1] === 5) {
		const n = codes[k + 2];
		if (!(n >= 0 && n < 256)) return ['', k + 2];
		if (n < 16) return [n, k + 2];
		if (n > 231) return [rgb(8 + 10 * (n - 232), 8 + 10 * (n - 232), 8 + 10 * (n - 232)), k + 2];
		const level = (v) => (v ? 55 + 40 * v : 0);
		return [rgb(level(Math.floor((n - 16) / 36)), level(Math.floor((n - 16) / 6) % 6), level((n - 16) % 6)), k + 2];
	}
	if (codes[k + 1] === 2) {
		const [r, g, b] = codes.slice(k + 2, k + 5);
		return [[r, g, b].every((v) => v >= 0 && v < 256) ? rgb(r, g, b) : '', k + 4];
	}
	return ['', k + 1];
}
const rgb = (r, g, b) => `rgb(${r}, ${g}, ${b})`;

function apply(style, parameters) {
	const codes = parameters.split(/[;:]/).map(Number);
	let next = style;
	for (let k = 0; k < codes.length; k += 1) {
		const code = codes[k];
		if (code !== 0) next = {...next};
		if (code === 0) next = PLAIN;
		else if (code === 22) next.bold = next.dim = false;
		else if (FLAGS[code]) next[FLAGS[code][0]] = FLAGS[code][1];
		else if (code >= 30 && code < 38) next.fg = code - 30;
		else if (code >= 90 && code < 98) next.fg = code - 82;
		else if (code >= 40 && code < 48) next.bg = code - 40;
		else if (code >= 100 && code < 108) next.bg = code - 92;
		else if (code === 38) [next.fg, k] = far(codes, k);
		else if (code === 48) [next.bg, k] = far(codes, k);
	}
	return next;
}

// The style behind a text that began in this one.
export function carry(text, style) {
	const reset = text.lastIndexOf('\u001b[0m'); // most colours end so, and nothing before it counts
	if (reset >= 0) [text, style] = [text.slice(reset + 4), PLAIN];
	if (!text.includes('\u001b')) return style;
	for (const match of text.matchAll(SGR)) style = apply(style, match[1]);
	return style;
}

// Tabs as blanks, so that a row has as many columns as characters.
const shown = (text) => visible(text.includes('\t') ? text.replaceAll('\t', '    ') : text);

export const strip = (text) => shown(text.includes('\u001b') ? text.replace(SGR, '') : text);

// [{text, style}…], with text made visible.
export function segments(text, style) {
	if (!text.includes('\u001b')) return [{text: shown(text), style}];
	const found = [];
	let last = 0;
	for (const match of text.matchAll(SGR)) {
		if (match.index > last) found.push({text: shown(text.slice(last, match.index)), style});
		style = apply(style, match[1]);
		last = match.index + match[0].length;
	}
	if (last < text.length) found.push({text: shown(text.slice(last)), style});
	return found;
}

export function look(style) {
	if (style === PLAIN) return {};
	let {fg, bg} = style;
	if (style.inverse) [fg, bg] = [bg === '' ? 'ground' : bg, fg === '' ? 'ink' : fg];
	const named = (v) => typeof v === 'number' || v === 'ground' || v === 'ink';
	const classes = [named(fg) && `f-${fg}`, named(bg) && `b-${bg}`, ...['bold', 'dim', 'italic', 'underline', 'strike'].filter((each) => style[each]).map((each) => `a-${each}`)].filter(Boolean);
	const colours = {};
	if (fg !== '' && !named(fg)) colours.color = fg;
	if (bg !== '' && !named(bg)) colours.backgroundColor = bg;
	return {class: classes.join(' ') || undefined, style: colours};
}
