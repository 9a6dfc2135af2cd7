// What the server says: one way to ask, errors as it words them, and views that stay fresh.
import {useCallback, useEffect, useRef, useState} from '../vendor/preact.js';
import {onStatus, socketStatus, subscribe} from './socket.js';
import {address} from './router.js';

class Problem extends Error {
	constructor(status, said) {
		super(said.detail || said.title || `The server answered ${status}`);
		this.status = status;
		this.title = said.title;
		this.field = said.field;
	}
}

export const SHAPES = '/openapi.json';

// Asks /api/v1; `text` is a body that is JSON already. Throws a Problem: status 0 when the server cannot be reached.
export async function api(path, {method = 'GET', query, body, text = body === undefined ? undefined : JSON.stringify(body), signal, headers = {}} = {}) {
	let answer;
	try {
		answer = await fetch(address(path === SHAPES ? path : `/api/v1${path}`, query), {
			method, signal, credentials: 'same-origin',
			headers: {accept: 'application/json', ...(text === undefined ? {} : {'content-type': 'application/json'}), ...headers},
			body: text,
		});
	} catch (error) {
		if (error.name === 'AbortError') throw error;
		throw new Problem(0, {title: 'No answer', detail: 'The server cannot be reached. It may be restarting, or the network is down.'});
	}
	if (answer.status === 401) {
		location.assign(address('/login', {next: location.pathname + location.search}));
		return new Promise(() => {});
	}
	const said = await answer.json().catch(() => ({}));
	if (!answer.ok) throw new Problem(answer.status, said);
	return said;
}

const POLL = 2000;

export function useStatus() {
	const [status, set] = useState(socketStatus());
	useEffect(() => {
		set(socketStatus());
		return onStatus(set);
	}, []);
	return status;
}

// {data, error, loading, at, reload}: loads on mount and when `deps` change, then every `every` ms while the
// page is seen. Old data stays until new data is there; an error stands beside it.
export function useData(load, deps, {every = 0} = {}) {
	const [state, set] = useState({loading: true});
	const again = useRef(() => {});
	const later = useRef(() => {});
	const pace = useRef(every);
	const puts = useRef(0);
	pace.current = every;
	useEffect(() => {
		let gone = false;
		let timer = 0;
		let controller = null;
		const next = () => {
			clearTimeout(timer);
			if (!gone && pace.current) timer = setTimeout(() => (document.hidden ? next() : run()), pace.current);
		};
		const run = async () => {
			clearTimeout(timer);
			controller?.abort();
			const mine = (controller = new AbortController());
			try {
				const before = puts.current;
				const data = await load(mine.signal);
				// What was pushed meanwhile is newer than what was asked for.
				if (!gone && controller === mine) set((old) => ({data: puts.current === before ? data : {...data, ...old.data}, loading: false, at: Date.now()}));
			} catch (error) {
				if (gone || controller !== mine || error.name === 'AbortError') return;
				set((old) => ({...old, error, loading: false}));
			}
			next();
		};
		again.current = run;
		later.current = next;
		set((old) => ({...old, loading: true}));
		run();
		const seen = () => pace.current && !document.hidden && run();
		document.addEventListener('visibilitychange', seen);
		return () => {
			gone = true;
			clearTimeout(timer);
			controller?.abort();
			document.removeEventListener('visibilitychange', seen);
		};
	}, deps);
	useEffect(() => later.current(), [every]);
	const put = useCallback((change) => {
		puts.current += 1;
		set((old) => ({...old, data: change(old.data), error: undefined, loading: false, at: Date.now()}));
	}, []);
	return {...state, put, reload: useCallback(() => again.current(), [])};
}

// The same of one path: asked anew when that or the query changes.
export const useApi = (path, {query, every} = {}) => useData((signal) => api(path, {signal, query}), [path, JSON.stringify(query)], {every});

// As useData, and kept fresh by a channel of the socket while it is there, by asking again while it is not.
export function useLive(load, deps, channel, heard, {until = false} = {}) {
	const live = useStatus() === 'live';
	const it = useData(load, deps, {every: until || live ? 0 : POLL});
	const latest = useRef(heard);
	latest.current = heard;
	useEffect(() => channel && !until ? subscribe(channel.name, () => channel.what?.() ?? {}, (event) => latest.current(event, it)) : undefined,
		[...deps, channel?.name, until]);
	return it;
}

let asked = null;
let scopes = [];

// Whether the reader may do what needs a scope: asked once; until it is known nothing is offered.
export function useMay() {
	const [known, set] = useState(scopes);
	useEffect(() => {
		let gone = false;
		asked ??= api('/me').then((me) => { scopes = me.scopes; }, () => { asked = null; });
		asked.then(() => gone || set(scopes));
		return () => { gone = true; };
	}, []);
	return (scope) => known.includes(scope);
}

// The time now, for ages on the screen.
export function useNow(every = 1000) {
	const [now, set] = useState(Date.now());
	useEffect(() => {
		const timer = setInterval(() => document.hidden || set(Date.now()), every);
		return () => clearInterval(timer);
	}, [every]);
	return now;
}
