#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_conf_knob.h"
#include "http/ngx_http_vidgen_conf_pass.h"


#define NGX_HTTP_VIDGEN_TELEGRAM  "https://api.telegram.org"
#define NGX_HTTP_VIDGEN_POLL_MAX  1728000000    /* 20 days: in ms it is an
                                                   integer of SQL */


static char *ngx_http_vidgen_monitor_set(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_vidgen_knob_t *knobs, void *conf);
static void ngx_http_vidgen_warn_unmonitored(ngx_conf_t *cf,
    ngx_vidgen_monitor_conf_t *conf);
static void ngx_http_vidgen_warn_provider(ngx_conf_t *cf,
    ngx_vidgen_provider_t *provider);
static ngx_int_t ngx_http_vidgen_default_path(ngx_conf_t *cf,
    ngx_vidgen_monitor_conf_t *conf);


#define ngx_http_vidgen_monitor_knob(name, kind, field, min, max)             \
    { name "=", NGX_HTTP_VIDGEN_##kind,                                       \
      offsetof(ngx_vidgen_monitor_conf_t, field), min, max }

static ngx_http_vidgen_knob_t  ngx_http_vidgen_monitor_knobs[] = {
    ngx_http_vidgen_monitor_knob("interval", TIME, rule.interval, 100, 0),
    ngx_http_vidgen_monitor_knob("timeout", TIME, timeout, 100, 0),
    ngx_http_vidgen_monitor_knob("fails", NUMBER, rule.fails, 1, 1000),
    ngx_http_vidgen_monitor_knob("passes", NUMBER, rule.passes, 1, 1000),
    ngx_http_vidgen_monitor_knob("slow", TIME_OFF, rule.slow, 100, 0),
    ngx_http_vidgen_monitor_knob("poll", TIME, poll, 100,
                                 NGX_HTTP_VIDGEN_POLL_MAX),
    ngx_http_vidgen_monitor_knob("overdue", TIME, overdue, 100, 0),
    ngx_http_vidgen_monitor_knob("unknown", TIME, unknown, 100, 0),
    ngx_http_vidgen_monitor_knob("expire", TIME, expire, 100, 0),
    { NULL, 0, 0, 0, 0 }
};


#define ngx_http_vidgen_alert_knob(name, kind, field)                         \
    { name "=", NGX_HTTP_VIDGEN_##kind,                                       \
      offsetof(ngx_vidgen_alert_conf_t, field), 100, 0 }

static ngx_http_vidgen_knob_t  ngx_http_vidgen_alert_knobs[] = {
    ngx_http_vidgen_alert_knob("token", SECRET, token),
    ngx_http_vidgen_alert_knob("chat", SECRET, chat),
    ngx_http_vidgen_alert_knob("url", URL, url),
    ngx_http_vidgen_alert_knob("every", TIME_OFF, every),
    ngx_http_vidgen_alert_knob("repeat", TIME_OFF, repeat),
    { NULL, 0, 0, 0, 0 }
};


void
ngx_http_vidgen_init_monitor(ngx_http_vidgen_main_conf_t *mcf)
{
    ngx_vidgen_monitor_conf_t  *conf;

    conf = &mcf->monitor;

    ngx_conf_init_uint_value(conf->enabled, 1);

    if (conf->rule.interval == 0) {
        conf->rule.interval = 5 * 60 * 1000;
    }

    if (conf->rule.fails == 0) {
        conf->rule.fails = 3;
    }

    if (conf->rule.passes == 0) {
        conf->rule.passes = 1;
    }

    ngx_conf_init_msec_value(conf->rule.slow, 5000);

    if (conf->timeout == 0) {
        conf->timeout = 10000;
    }

    if (conf->poll == 0) {
        conf->poll = 5000;
    }

    if (conf->overdue == 0) {
        conf->overdue = 10 * 60 * 1000;
    }

    if (conf->unknown == 0) {
        conf->unknown = 30 * 60 * 1000;
    }

    if (conf->expire == 0) {
        conf->expire = 24 * 60 * 60 * 1000;
    }
}


/* vidgen_monitor off | [interval=] [timeout=] [fails=] ... */
char *
ngx_http_vidgen_conf_monitor(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_main_conf_t *mcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    if (mcf->monitor.enabled != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        mcf->monitor.enabled = 0;
        return NGX_CONF_OK;
    }

    mcf->monitor.enabled = 1;

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_http_vidgen_monitor_set(cf, &value[i],
                                         ngx_http_vidgen_monitor_knobs,
                                         &mcf->monitor);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


/* vidgen_alert telegram token=S chat=S [url=] [every=] [repeat=] */
char *
ngx_http_vidgen_conf_alert(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_main_conf_t *mcf = conf;

    char                     *rv;
    ngx_str_t                *value;
    ngx_uint_t                i;
    ngx_vidgen_alert_conf_t  *alert;

    if (mcf->monitor.alert) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "telegram") != 0) {
        return "knows \"telegram\" only";
    }

    alert = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_alert_conf_t));
    if (alert == NULL) {
        return NGX_CONF_ERROR;
    }

    mcf->monitor.alert = alert;

    ngx_str_set(&alert->url, NGX_HTTP_VIDGEN_TELEGRAM);
    alert->every = 15 * 60 * 1000;
    alert->file = cf->conf_file->file.name.data;
    alert->line = cf->conf_file->line;

    for (i = 2; i < cf->args->nelts; i++) {
        rv = ngx_http_vidgen_monitor_set(cf, &value[i],
                                         ngx_http_vidgen_alert_knobs, alert);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (alert->token.len == 0 || alert->chat.len == 0) {
        return "needs \"token=\" and \"chat=\"";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_monitor_set(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_vidgen_knob_t *knobs, void *conf)
{
    char       *rv;
    ngx_str_t   name;

    if (ngx_http_vidgen_conf_set_knob(cf, text, knobs, conf, &rv)) {
        return rv;
    }

    name = ngx_http_vidgen_conf_knob_name(text);

    return ngx_http_vidgen_conf_invalid(cf, &name);
}


/* vidgen_state_path path */
char *
ngx_http_vidgen_conf_state_path(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_vidgen_main_conf_t *mcf = conf;

    ngx_str_t   *value;
    ngx_path_t  *path;

    if (mcf->monitor.path) {
        return "is duplicate";
    }

    path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));
    if (path == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;
    path->name = value[1];

    while (path->name.len > 1 && path->name.data[path->name.len - 1] == '/') {
        path->name.len--;
    }

    if (path->name.len == 0) {
        return "needs a path";
    }

    if (ngx_conf_full_name(cf->cycle, &path->name, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    path->conf_file = cf->conf_file->file.name.data;
    path->line = cf->conf_file->line;

    mcf->monitor.path = path;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_vidgen_check_monitor(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf)
{
    ngx_uint_t                   i;
    ngx_vidgen_monitor_conf_t   *conf;
    ngx_http_vidgen_location_t  *location;

    conf = &mcf->monitor;

    conf->providers = &mcf->providers;
    conf->zone = mcf->zone;
    conf->database = mcf->database;
    conf->ttl = mcf->idempotency_ttl;

    location = mcf->locations.elts;

    for (i = 0; i < mcf->locations.nelts && conf->ca_file.len == 0; i++) {
        ngx_http_vidgen_pass_certificate(cf, &location[i], &conf->ca_file);
    }

    if (!conf->enabled) {
        ngx_http_vidgen_warn_unmonitored(cf, conf);
    }

    return conf->path ? NGX_OK : ngx_http_vidgen_default_path(cf, conf);
}


/* vidgen_monitor off: what is configured for it and will not happen */
static void
ngx_http_vidgen_warn_unmonitored(ngx_conf_t *cf,
    ngx_vidgen_monitor_conf_t *conf)
{
    ngx_uint_t               i;
    ngx_conf_file_t          place, *saved;
    ngx_vidgen_provider_t  **provider;

    if (conf->alert) {
        ngx_http_vidgen_check_at(cf, saved, place, conf->alert->file,
                                 conf->alert->line);
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"vidgen_alert\" sends nothing, for"
                           " \"vidgen_monitor\" is off");
        cf->conf_file = saved;
    }

    provider = conf->providers->elts;

    for (i = 0; i < conf->providers->nelts; i++) {
        ngx_http_vidgen_check_at(cf, saved, place, provider[i]->file,
                                 provider[i]->line);
        ngx_http_vidgen_warn_provider(cf, provider[i]);
        cf->conf_file = saved;
    }
}


static void
ngx_http_vidgen_warn_provider(ngx_conf_t *cf, ngx_vidgen_provider_t *provider)
{
    ngx_vidgen_webhook_t  *webhook;

    webhook = provider->webhook;

    if (provider->poll && (webhook == NULL || webhook->scheme.token)) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "only a \"poll\" can end jobs of provider \"%V\","
                           " and \"vidgen_monitor\" is off",
                           &provider->name);
    }

    if (webhook && webhook->scheme.jwks.len) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "the key set (\"jwks=\") of provider \"%V\" is"
                           " not fetched, for \"vidgen_monitor\" is off",
                           &provider->name);
    }
}


/* beside the folders that nginx was built to keep its own files in */
static ngx_int_t
ngx_http_vidgen_default_path(ngx_conf_t *cf, ngx_vidgen_monitor_conf_t *conf)
{
    u_char      *p;
    size_t       len;
    ngx_str_t    proxy = ngx_string(NGX_HTTP_PROXY_TEMP_PATH);
    ngx_path_t  *path;

    len = proxy.len;

    while (len > 0 && proxy.data[len - 1] != '/') {
        len--;
    }

    path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));
    p = ngx_pnalloc(cf->pool, len + sizeof("vidgen"));

    if (path == NULL || p == NULL) {
        return NGX_ERROR;
    }

    path->name.data = p;
    path->name.len = ngx_sprintf(p, "%*svidgen", len, proxy.data) - p;
    p[path->name.len] = '\0';

    if (ngx_conf_full_name(cf->cycle, &path->name, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    path->conf_file = cf->conf_file->file.name.data;
    path->line = cf->conf_file->line;

    conf->path = path;

    return NGX_OK;
}
