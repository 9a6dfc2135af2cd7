// Where the reader is: the address is the only state that outlives a reload.
import {useEffect, useState} from '../vendor/preact.js';

const told = new Set();
const tell = () => told.forEach((each) => each());
addEventListener('popstate', tell);

export function go(url, {replace = false} = {}) {
	if (url === location.pathname + location.search) return;
	const path = location.pathname;
	history[replace ? 'replaceState' : 'pushState'](null, '', url);
	if (!replace) scrollTo(0, 0);
	const moved = new URL(url, location.origin).pathname !== path;
	tell();
	if (moved) document.getElementById('main')?.focus({preventScroll: true});
}

// Links within the page do not load it again.
document.addEventListener('click', (event) => {
	const link = event.target.closest?.('a[href]');
	if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
	if (link.target || link.hasAttribute('download') || link.origin !== location.origin || link.dataset.plain != null) return;
	if (link.hash && link.pathname === location.pathname) return;
	event.preventDefault();
	go(link.pathname + link.search);
});

export function useAddress() {
	const [address, set] = useState(location.pathname + location.search);
	useEffect(() => {
		const heard = () => set(location.pathname + location.search);
		told.add(heard);
		heard();
		return () => told.delete(heard);
	}, []);
	const url = new URL(address, location.origin);
	return {path: url.pathname, query: Object.fromEntries(url.searchParams)};
}

export const address = (path, query = {}) => {
	const kept = Object.entries(query).filter(([, value]) => value != null && value !== '' && value !== false);
	return kept.length ? `${path}?${new URLSearchParams(kept)}` : path;
};

// Names of scripts have slashes that stay; everything else in them is escaped.
export const inPath = (name) => name.split('/').map(encodeURIComponent).join('/');
export const fromPath = (text) => { try { return decodeURIComponent(text); } catch { return text; } };
