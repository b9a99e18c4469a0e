#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <curl/curl.h>
#include "io/ngx_vidgen_fetch.h"
#include "io/ngx_vidgen_fetch_int.h"
#include "io/ngx_vidgen_watch.h"


#define NGX_VIDGEN_FETCH_IDLE  32        /* connections that are kept */


/*
 * What is watched is a duplicate of libcurl's descriptor: some of its versions
 * close a socket that is still connecting without a word, and its number may
 * stand for another file by the time they say that it is to be forgotten.
 */
typedef struct {
    ngx_vidgen_watch_t           watch;
    ngx_queue_t                  link;       /* of used or of free ones */
    ngx_vidgen_fetch_t          *fetch;
    curl_socket_t                fd;         /* libcurl's */
    ngx_socket_t                 twin;
    ngx_uint_t                   events;
} ngx_vidgen_fetch_socket_t;


static ngx_int_t ngx_vidgen_fetch_init(ngx_vidgen_fetch_t *fetch);
static int ngx_vidgen_fetch_watch(CURL *easy, curl_socket_t fd, int what,
    void *data, void *socket_data);
static ngx_vidgen_fetch_socket_t *ngx_vidgen_fetch_socket(
    ngx_vidgen_fetch_t *fetch, curl_socket_t fd);
static ngx_int_t ngx_vidgen_fetch_twin(ngx_vidgen_fetch_socket_t *sock,
    curl_socket_t fd);
static void ngx_vidgen_fetch_part(ngx_vidgen_fetch_socket_t *sock);
static void ngx_vidgen_fetch_ready(ngx_vidgen_watch_t *watch,
    ngx_uint_t ready);
static int ngx_vidgen_fetch_arm(CURLM *multi, long timeout_ms, void *data);
static void ngx_vidgen_fetch_timer(ngx_event_t *ev);
static void ngx_vidgen_fetch_act(ngx_vidgen_fetch_t *fetch, curl_socket_t fd,
    int mask);
static void ngx_vidgen_fetch_cleanup(void *data);
static void ngx_vidgen_fetch_release(ngx_vidgen_fetch_request_t *request);


ngx_vidgen_fetch_t *
ngx_vidgen_fetch_create(ngx_cycle_t *cycle, ngx_str_t *ca_file)
{
    ngx_pool_t          *pool;
    ngx_vidgen_fetch_t  *fetch;

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    fetch = ngx_pcalloc(pool, sizeof(ngx_vidgen_fetch_t));
    if (fetch == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    fetch->pool = pool;
    fetch->log = cycle->log;
    fetch->ca_file = *ca_file;
    fetch->ident.fd = (ngx_socket_t) -1;

    ngx_queue_init(&fetch->requests);
    ngx_queue_init(&fetch->used);
    ngx_queue_init(&fetch->free);

    fetch->timer.handler = ngx_vidgen_fetch_timer;
    fetch->timer.data = &fetch->ident;
    fetch->timer.log = fetch->log;
    fetch->timer.cancelable = 1;

    if (ngx_vidgen_fetch_init(fetch) != NGX_OK) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    return fetch;
}


static ngx_int_t
ngx_vidgen_fetch_init(ngx_vidgen_fetch_t *fetch)
{
    curl_version_info_data  *version;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        ngx_log_error(NGX_LOG_CRIT, fetch->log, 0,
                      "vidgen: libcurl could not be initialized");
        return NGX_ERROR;
    }

    version = curl_version_info(CURLVERSION_NOW);

    if (!(version->features & CURL_VERSION_ASYNCHDNS)) {
        ngx_log_error(NGX_LOG_CRIT, fetch->log, 0,
                      "vidgen: this libcurl (%s) would wait for names: one"
                      " with a threaded resolver or c-ares is needed",
                      version->version);
        return NGX_ERROR;
    }

    fetch->multi = curl_multi_init();

    if (fetch->multi == NULL) {
        ngx_log_error(NGX_LOG_CRIT, fetch->log, 0,
                      "vidgen: libcurl has no memory");
        return NGX_ERROR;
    }

    curl_multi_setopt(fetch->multi, CURLMOPT_SOCKETFUNCTION,
                      ngx_vidgen_fetch_watch);
    curl_multi_setopt(fetch->multi, CURLMOPT_SOCKETDATA, fetch);
    curl_multi_setopt(fetch->multi, CURLMOPT_TIMERFUNCTION,
                      ngx_vidgen_fetch_arm);
    curl_multi_setopt(fetch->multi, CURLMOPT_TIMERDATA, fetch);
    curl_multi_setopt(fetch->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
                      (long) NGX_VIDGEN_FETCH_MAX);
    curl_multi_setopt(fetch->multi, CURLMOPT_MAXCONNECTS,
                      (long) NGX_VIDGEN_FETCH_IDLE);

    return NGX_OK;
}


void
ngx_vidgen_fetch_destroy(ngx_vidgen_fetch_t *fetch)
{
    ngx_queue_t  *q;

    while (!ngx_queue_empty(&fetch->requests)) {
        q = ngx_queue_head(&fetch->requests);
        ngx_vidgen_fetch_release(ngx_queue_data(q, ngx_vidgen_fetch_request_t,
                                                link));
    }

    curl_multi_cleanup(fetch->multi);

    if (fetch->timer.timer_set) {
        ngx_del_timer(&fetch->timer);
    }

    curl_global_cleanup();

    ngx_destroy_pool(fetch->pool);
}


ngx_vidgen_fetch_request_t *
ngx_vidgen_fetch_request(ngx_vidgen_fetch_t *fetch, ngx_pool_t *pool)
{
    ngx_pool_cleanup_t          *cln;
    ngx_vidgen_fetch_request_t  *request;

    request = ngx_pcalloc(pool, sizeof(ngx_vidgen_fetch_request_t));
    cln = ngx_pool_cleanup_add(pool, 0);

    if (request == NULL || cln == NULL) {
        return NULL;
    }

    request->fetch = fetch;
    request->pool = pool;

    cln->handler = ngx_vidgen_fetch_cleanup;
    cln->data = request;

    return request;
}


ngx_int_t
ngx_vidgen_fetch_start(ngx_vidgen_fetch_request_t *request)
{
    ngx_vidgen_fetch_t  *fetch;

    fetch = request->fetch;

    if (fetch->running >= NGX_VIDGEN_FETCH_MAX) {
        return NGX_BUSY;
    }

    ngx_memzero(&request->answer, sizeof(ngx_vidgen_fetch_answer_t));

    request->answer.retry_after = -1;
    request->answer.max_age = -1;
    request->room = 0;
    request->header = 0;

    request->easy = curl_easy_init();
    if (request->easy == NULL) {
        return NGX_ERROR;
    }

    fetch->running++;
    ngx_queue_insert_tail(&fetch->requests, &request->link);

    if (ngx_vidgen_fetch_prepare(request) != NGX_OK
        || curl_multi_add_handle(fetch->multi, request->easy) != CURLM_OK)
    {
        ngx_vidgen_fetch_release(request);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_vidgen_fetch_cleanup(void *data)
{
    ngx_vidgen_fetch_release(data);
}


static void
ngx_vidgen_fetch_release(ngx_vidgen_fetch_request_t *request)
{
    if (request->easy) {
        curl_multi_remove_handle(request->fetch->multi, request->easy);
        curl_easy_cleanup(request->easy);

        request->easy = NULL;
        request->fetch->running--;
        ngx_queue_remove(&request->link);
    }

    if (request->headers) {
        curl_slist_free_all(request->headers);
        request->headers = NULL;
    }
}


/* libcurl says what it wants to know of a socket */
static int
ngx_vidgen_fetch_watch(CURL *easy, curl_socket_t fd, int what, void *data,
    void *socket_data)
{
    ngx_vidgen_fetch_t *fetch = data;
    ngx_vidgen_fetch_socket_t *sock = socket_data;

    ngx_uint_t  events;

    (void) easy;

    if (what == CURL_POLL_REMOVE) {

        if (sock) {
            curl_multi_assign(fetch->multi, fd, NULL);
            ngx_vidgen_fetch_part(sock);
            ngx_queue_remove(&sock->link);
            ngx_queue_insert_head(&fetch->free, &sock->link);
        }

        return 0;
    }

    if (sock == NULL) {
        sock = ngx_vidgen_fetch_socket(fetch, fd);

        /* a socket that nobody watches ends by the request's timeout */

        if (sock == NULL) {
            return 0;
        }

        curl_multi_assign(fetch->multi, fd, sock);
    }

    events = 0;

    if (what & CURL_POLL_IN) {
        events |= NGX_VIDGEN_WATCH_READ;
    }

    if (what & CURL_POLL_OUT) {
        events |= NGX_VIDGEN_WATCH_WRITE;
    }

    sock->events = events;

    (void) ngx_vidgen_watch_set(&sock->watch, sock->twin, events);

    return 0;
}


static ngx_vidgen_fetch_socket_t *
ngx_vidgen_fetch_socket(ngx_vidgen_fetch_t *fetch, curl_socket_t fd)
{
    ngx_queue_t                *q;
    ngx_vidgen_fetch_socket_t  *sock;

    if (!ngx_queue_empty(&fetch->free)) {
        q = ngx_queue_head(&fetch->free);
        ngx_queue_remove(q);

        sock = ngx_queue_data(q, ngx_vidgen_fetch_socket_t, link);

    } else {
        sock = ngx_pcalloc(fetch->pool, sizeof(ngx_vidgen_fetch_socket_t));
        if (sock == NULL) {
            return NULL;
        }
    }

    sock->fetch = fetch;
    sock->fd = fd;
    sock->watch.handler = ngx_vidgen_fetch_ready;
    sock->watch.data = sock;
    sock->watch.log = fetch->log;

    if (ngx_vidgen_fetch_twin(sock, fd) != NGX_OK) {
        ngx_queue_insert_head(&fetch->free, &sock->link);
        return NULL;
    }

    ngx_queue_insert_head(&fetch->used, &sock->link);

    return sock;
}


static ngx_int_t
ngx_vidgen_fetch_twin(ngx_vidgen_fetch_socket_t *sock, curl_socket_t fd)
{
    sock->twin = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (sock->twin == (ngx_socket_t) -1) {
        ngx_log_error(NGX_LOG_CRIT, sock->fetch->log, ngx_socket_errno,
                      "vidgen: fcntl(F_DUPFD_CLOEXEC) failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_vidgen_fetch_part(ngx_vidgen_fetch_socket_t *sock)
{
    ngx_vidgen_watch_drop(&sock->watch);

    if (ngx_close_socket(sock->twin) == -1) {
        ngx_log_error(NGX_LOG_ALERT, sock->fetch->log, ngx_socket_errno,
                      "vidgen: " ngx_close_socket_n " failed");
    }
}


/*
 * A socket whose number is watched already takes the place of one that was
 * closed without a word.  libcurl thinks that it has told us of the number.
 */
curl_socket_t
ngx_vidgen_fetch_open(void *data, curlsocktype purpose,
    struct curl_sockaddr *address)
{
    ngx_vidgen_fetch_t *fetch = data;

    ngx_queue_t                *q;
    curl_socket_t               fd;
    ngx_vidgen_fetch_socket_t  *sock;

    (void) purpose;

    fd = ngx_socket(address->family, address->socktype, address->protocol);

    if (fd == CURL_SOCKET_BAD) {
        return fd;
    }

    for (q = ngx_queue_head(&fetch->used);
         q != ngx_queue_sentinel(&fetch->used);
         q = ngx_queue_next(q))
    {
        sock = ngx_queue_data(q, ngx_vidgen_fetch_socket_t, link);

        if (sock->fd == fd) {
            ngx_vidgen_fetch_part(sock);

            if (ngx_vidgen_fetch_twin(sock, fd) == NGX_OK) {
                (void) ngx_vidgen_watch_set(&sock->watch, sock->twin,
                                            sock->events);
            }

            break;
        }
    }

    return fd;
}


static void
ngx_vidgen_fetch_ready(ngx_vidgen_watch_t *watch, ngx_uint_t ready)
{
    ngx_vidgen_fetch_socket_t *sock = watch->data;

    ngx_vidgen_fetch_act(sock->fetch, sock->fd,
                         ready & NGX_VIDGEN_WATCH_WRITE ? CURL_CSELECT_OUT
                                                        : CURL_CSELECT_IN);
}


/* never acts at once: libcurl calls this in the middle of its work */
static int
ngx_vidgen_fetch_arm(CURLM *multi, long timeout_ms, void *data)
{
    ngx_vidgen_fetch_t *fetch = data;

    (void) multi;

    if (fetch->timer.timer_set) {
        ngx_del_timer(&fetch->timer);
    }

    if (timeout_ms >= 0) {
        ngx_add_timer(&fetch->timer, timeout_ms);
    }

    return 0;
}


static void
ngx_vidgen_fetch_timer(ngx_event_t *ev)
{
    ngx_vidgen_fetch_t  *fetch;

    fetch = ngx_queue_data(ev, ngx_vidgen_fetch_t, timer);

    ngx_vidgen_fetch_act(fetch, CURL_SOCKET_TIMEOUT, 0);
}


static void
ngx_vidgen_fetch_act(ngx_vidgen_fetch_t *fetch, curl_socket_t fd, int mask)
{
    int                          n;
    void                        *private;
    CURLMsg                     *message;
    CURLcode                     code;
    ngx_vidgen_fetch_request_t  *request;

    (void) curl_multi_socket_action(fetch->multi, fd, mask, &n);

    while ((message = curl_multi_info_read(fetch->multi, &n)) != NULL) {

        if (message->msg != CURLMSG_DONE) {
            continue;
        }

        code = message->data.result;

        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        request = private;

        ngx_vidgen_fetch_finish(request, code);
        ngx_vidgen_fetch_release(request);

        request->handler(request);
    }

#if (NGX_OPENSSL)

    /* nginx and libpq would take what is left for theirs */

    ERR_clear_error();

#endif
}
