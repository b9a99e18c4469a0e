#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <libpq-fe.h>
#include "io/ngx_vidgen_pg.h"
#include "io/ngx_vidgen_pg_conninfo.h"


#define NGX_VIDGEN_PG_OPTIONS_MAX  96
#define NGX_VIDGEN_PG_HOSTS_MAX    32


typedef struct {
    const char  *keyword;
    const char  *value;
} ngx_vidgen_pg_option_t;


static char *ngx_vidgen_pg_parse(ngx_conf_t *cf, ngx_vidgen_pg_conf_t *conf);
static void ngx_vidgen_pg_parse_cleanup(void *data);
static char *ngx_vidgen_pg_parse_error(ngx_pool_t *pool, char *error);
static char *ngx_vidgen_pg_given(ngx_vidgen_pg_target_t *target,
    const char *keyword);
static ngx_uint_t ngx_vidgen_pg_is_own(const char *keyword);
static char *ngx_vidgen_pg_take_timeout(ngx_vidgen_pg_conf_t *conf);
static char *ngx_vidgen_pg_take_hosts(ngx_conf_t *cf,
    ngx_vidgen_pg_conf_t *conf);
static char *ngx_vidgen_pg_take_host(ngx_conf_t *cf,
    ngx_vidgen_pg_conf_t *conf, ngx_vidgen_pg_host_t *host);
static char *ngx_vidgen_pg_resolve_at_load(ngx_conf_t *cf,
    ngx_vidgen_pg_host_t *host);
static ngx_array_t *ngx_vidgen_pg_split(ngx_pool_t *pool, const char *list);


static char  ngx_vidgen_pg_no_memory[] = "no memory";


/* what the bridge says itself, for each address */

static const char  *ngx_vidgen_pg_own[] = {
    "host", "hostaddr", "port", "connect_timeout", "client_encoding", NULL
};


/* used where the connection string does not say */

static ngx_vidgen_pg_option_t  ngx_vidgen_pg_defaults[] = {
    { "fallback_application_name", "nginx vidgen" },
    { "gssencmode",                "disable" },       /* it blocks */
    { "keepalives_idle",           "30" },
    { "keepalives_interval",       "5" },
    { "keepalives_count",          "3" },
    { NULL, NULL }
};


char *
ngx_vidgen_pg_conf_check(ngx_conf_t *cf, ngx_vidgen_pg_conf_t *conf)
{
    char                    *error;
    ngx_vidgen_pg_target_t  *target;

    target = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_pg_target_t));
    if (target == NULL) {
        return ngx_vidgen_pg_no_memory;
    }

    conf->target = target;

    error = ngx_vidgen_pg_parse(cf, conf);
    if (error) {
        return error;
    }

    /* its file could name a host, which libpq would resolve itself */

    if (ngx_vidgen_pg_given(target, "service")) {
        return "\"service\" is not supported in the connection string";
    }

    error = ngx_vidgen_pg_take_timeout(conf);
    if (error) {
        return error;
    }

    return ngx_vidgen_pg_take_hosts(cf, conf);
}


PGconn *
ngx_vidgen_pg_target_connect(ngx_vidgen_pg_target_t *target,
    ngx_vidgen_pg_host_t *host, char *addr)
{
    ngx_uint_t               n;
    PQconninfoOption        *option;
    ngx_vidgen_pg_option_t  *d;
    const char              *values[NGX_VIDGEN_PG_OPTIONS_MAX];
    const char              *keywords[NGX_VIDGEN_PG_OPTIONS_MAX];

    n = 0;

    for (option = target->options; option->keyword; option++) {

        if (option->val && !ngx_vidgen_pg_is_own(option->keyword)
            && n < NGX_VIDGEN_PG_OPTIONS_MAX - 16)
        {
            keywords[n] = option->keyword;
            values[n++] = option->val;
        }
    }

    for (d = ngx_vidgen_pg_defaults; d->keyword; d++) {

        if (ngx_vidgen_pg_given(target, d->keyword) == NULL) {
            keywords[n] = d->keyword;
            values[n++] = d->value;
        }
    }

    if (ngx_vidgen_pg_given(target, "tcp_user_timeout") == NULL) {
        keywords[n] = "tcp_user_timeout";
        values[n++] = (char *) target->unacked;
    }

    keywords[n] = "client_encoding";
    values[n++] = "UTF8";

    if (host->name.len) {
        keywords[n] = "host";
        values[n++] = (char *) host->name.data;
    }

    if (addr) {
        keywords[n] = "hostaddr";
        values[n++] = addr;
    }

    if (host->port) {
        keywords[n] = "port";
        values[n++] = host->port;
    }

    keywords[n] = NULL;
    values[n] = NULL;

    return PQconnectStartParams(keywords, values, 0);
}


static char *
ngx_vidgen_pg_parse(ngx_conf_t *cf, ngx_vidgen_pg_conf_t *conf)
{
    char                    *text, *error;
    ngx_pool_cleanup_t      *cln;
    ngx_vidgen_pg_target_t  *target = conf->target;

    if (ngx_strlchr(conf->conninfo.data,
                    conf->conninfo.data + conf->conninfo.len, '\0'))
    {
        return "the connection string has a NUL byte";
    }

    text = ngx_pnalloc(cf->pool, conf->conninfo.len + 1);
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (text == NULL || cln == NULL) {
        return ngx_vidgen_pg_no_memory;
    }

    (void) ngx_cpystrn((u_char *) text, conf->conninfo.data,
                       conf->conninfo.len + 1);

    error = NULL;
    target->options = PQconninfoParse(text, &error);

    if (target->options == NULL) {
        text = ngx_vidgen_pg_parse_error(cf->pool, error);
        PQfreemem(error);
        return text;
    }

    cln->handler = ngx_vidgen_pg_parse_cleanup;
    cln->data = target->options;

    return NULL;
}


static void
ngx_vidgen_pg_parse_cleanup(void *data)
{
    PQconninfoFree(data);
}


/*
 * libpq quotes what it stumbled over, and that may be a piece of a password:
 * everything between the first and the last quote is left out.
 */

static char *
ngx_vidgen_pg_parse_error(ngx_pool_t *pool, char *error)
{
    char    *text, *first, *last;
    size_t   len;

    first = error ? strchr(error, '"') : NULL;

    if (first == NULL) {
        return "invalid connection string";
    }

    last = strrchr(error, '"');
    len = ngx_strlen(last);

    while (len && last[len - 1] == '\n') {
        len--;
    }

    text = ngx_pnalloc(pool, first - error + sizeof("\"...") + len);
    if (text == NULL) {
        return ngx_vidgen_pg_no_memory;
    }

    (void) ngx_sprintf((u_char *) text, "%*s\"...%*s%Z",
                       (size_t) (first - error), error, len, last);

    return text;
}


/* NULL: not given, or empty */

static char *
ngx_vidgen_pg_given(ngx_vidgen_pg_target_t *target, const char *keyword)
{
    PQconninfoOption  *option;

    for (option = target->options; option->keyword; option++) {

        if (ngx_strcmp(option->keyword, keyword) == 0) {
            return option->val && *option->val ? option->val : NULL;
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_vidgen_pg_is_own(const char *keyword)
{
    ngx_uint_t  i;

    for (i = 0; ngx_vidgen_pg_own[i]; i++) {
        if (ngx_strcmp(ngx_vidgen_pg_own[i], keyword) == 0) {
            return 1;
        }
    }

    return 0;
}


static char *
ngx_vidgen_pg_take_timeout(ngx_vidgen_pg_conf_t *conf)
{
    char                    *text;
    ngx_int_t                n;
    ngx_vidgen_pg_target_t  *target = conf->target;

    /*
     * A peer that vanished must be noticed while there is time left to send
     * the call again elsewhere.
     */

    target->connect_timeout = ngx_max(conf->timeout / 2, 500);

    (void) ngx_sprintf(target->unacked, "%M%Z", target->connect_timeout);

    text = ngx_vidgen_pg_given(target, "connect_timeout");

    if (text == NULL) {
        return NULL;
    }

    n = ngx_atoi((u_char *) text, ngx_strlen(text));

    if (n == NGX_ERROR || n > 3600) {
        return "invalid \"connect_timeout\" in the connection string";
    }

    if (n) {
        target->connect_timeout = (ngx_msec_t) n * 1000;
    }

    return NULL;
}


static char *
ngx_vidgen_pg_take_hosts(ngx_conf_t *cf, ngx_vidgen_pg_conf_t *conf)
{
    char                    *error, *host_list, *addr_list;
    ngx_str_t               *name, *addr, *port;
    ngx_uint_t               i, n;
    ngx_array_t             *names, *addrs, *ports;
    ngx_vidgen_pg_host_t    *host;
    ngx_vidgen_pg_target_t  *target = conf->target;

    host_list = ngx_vidgen_pg_given(target, "host");
    addr_list = ngx_vidgen_pg_given(target, "hostaddr");

    names = ngx_vidgen_pg_split(cf->pool, host_list);
    addrs = ngx_vidgen_pg_split(cf->pool, addr_list);
    ports = ngx_vidgen_pg_split(cf->pool, ngx_vidgen_pg_given(target, "port"));

    if (names == NULL || addrs == NULL || ports == NULL) {
        return ngx_vidgen_pg_no_memory;
    }

    n = addr_list ? addrs->nelts : names->nelts;

    if ((host_list && names->nelts != n)
        || (ports->nelts != 1 && ports->nelts != n)
        || n > NGX_VIDGEN_PG_HOSTS_MAX)
    {
        return "the numbers of \"host\", \"hostaddr\" and \"port\" in the"
               " connection string do not match, or are too large";
    }

    if (ngx_array_init(&target->hosts, cf->pool, n,
                       sizeof(ngx_vidgen_pg_host_t))
        != NGX_OK)
    {
        return ngx_vidgen_pg_no_memory;
    }

    name = names->elts;
    addr = addrs->elts;
    port = ports->elts;

    for (i = 0; i < n; i++) {
        host = ngx_array_push(&target->hosts);

        ngx_memzero(host, sizeof(ngx_vidgen_pg_host_t));

        host->name = name[host_list ? i : 0];
        host->port = (char *) port[ports->nelts == 1 ? 0 : i].data;

        if (*host->port == '\0') {
            host->port = NULL;
        }

        if (addr_list && addr[i].len) {
            host->addrs = &addr[i];
            host->naddrs = 1;
            continue;
        }

        error = ngx_vidgen_pg_take_host(cf, conf, host);
        if (error) {
            return error;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_vidgen_pg_take_host(ngx_conf_t *cf, ngx_vidgen_pg_conf_t *conf,
    ngx_vidgen_pg_host_t *host)
{
    ngx_str_t  *name = &host->name;

    /* an empty name is libpq's default folder of the Unix socket */

    if (name->len == 0 || name->data[0] == '/' || name->data[0] == '@') {
        host->local = 1;
        return NULL;
    }

    if (ngx_inet_addr(name->data, name->len) != INADDR_NONE
        || ngx_strlchr(name->data, name->data + name->len, ':'))
    {
        host->addrs = name;
        host->naddrs = 1;
        return NULL;
    }

    /* name servers do not know the one name that each machine has */

    if (conf->resolver && conf->resolver->connections.nelts
        && (name->len != sizeof("localhost") - 1
            || ngx_strncasecmp(name->data, (u_char *) "localhost", name->len)
               != 0))
    {
        host->named = 1;
        return NULL;
    }

    return ngx_vidgen_pg_resolve_at_load(cf, host);
}


static char *
ngx_vidgen_pg_resolve_at_load(ngx_conf_t *cf, ngx_vidgen_pg_host_t *host)
{
    u_char     *text;
    size_t      len;
    ngx_url_t   u;
    ngx_uint_t  i;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.host = host->name;

    if (ngx_inet_resolve_host(cf->pool, &u) != NGX_OK) {
        text = ngx_pnalloc(cf->pool, host->name.len + 64);
        if (text == NULL) {
            return ngx_vidgen_pg_no_memory;
        }

        (void) ngx_sprintf(text, "host \"%V\" was not found and there is no"
                           " \"resolver\"%Z", &host->name);
        return (char *) text;
    }

    host->addrs = ngx_pcalloc(cf->pool, u.naddrs * sizeof(ngx_str_t));
    if (host->addrs == NULL) {
        return ngx_vidgen_pg_no_memory;
    }

    for (i = 0; i < u.naddrs; i++) {
        text = ngx_pcalloc(cf->pool, NGX_SOCKADDR_STRLEN + 1);
        if (text == NULL) {
            return ngx_vidgen_pg_no_memory;
        }

        len = ngx_sock_ntop(u.addrs[i].sockaddr, u.addrs[i].socklen, text,
                            NGX_SOCKADDR_STRLEN, 0);

        host->addrs[i].data = text;
        host->addrs[i].len = len;
    }

    host->naddrs = u.naddrs;

    return NULL;
}


/* a list without elements has one that is empty, as in libpq */

static ngx_array_t *
ngx_vidgen_pg_split(ngx_pool_t *pool, const char *list)
{
    char         *copy, *end;
    size_t        len;
    ngx_str_t    *element;
    ngx_array_t  *array;

    len = list ? ngx_strlen(list) : 0;

    copy = ngx_pnalloc(pool, len + 1);
    array = ngx_array_create(pool, 4, sizeof(ngx_str_t));

    if (copy == NULL || array == NULL) {
        return NULL;
    }

    (void) ngx_cpystrn((u_char *) copy, (u_char *) (list ? list : ""),
                       len + 1);

    do {
        element = ngx_array_push(array);
        if (element == NULL) {
            return NULL;
        }

        end = strchr(copy, ',');

        if (end) {
            *end++ = '\0';
        }

        element->data = (u_char *) copy;
        element->len = ngx_strlen(copy);

        copy = end;

    } while (copy);

    return array;
}
