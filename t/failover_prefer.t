#!/usr/bin/perl

# The provider that is to be tried first: the body's, or vidgen_prefer's; and
# when it is not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 32;

use VidgenTest::Books qw(customer everything wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $standin = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars   => { DB => $pg->edge_conninfo, BASE => $standin->url },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";

    vidgen_provider a {
        base %%BASE%%;
        submit { url $vidgen_base/a; job_id /request_id; }
    }
    vidgen_provider b {
        base %%BASE%%;
        submit { url $vidgen_base/b; job_id /request_id; }
    }
    vidgen_provider c {
        base %%BASE%%;
        submit { url $vidgen_base/c; job_id /request_id; }
    }
    vidgen_provider one {
        base %%BASE%%;
        submit { url $vidgen_base/one; job_id /request_id; max_jobs 1; }
    }
    vidgen_provider receiver {
        webhook {
            signature  token;
            job_id     /id;
            status     /status;
        }
        poll { url %%BASE%%/$vidgen_provider_job_id; status /status;
               video_url /url; }
    }

    vidgen_secret test-secret;

    split_clients $http_x_user $canary {
        30%  c;
        *    "";
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_retry                  attempts=1;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /all      { vidgen_generate a b c; }
        location = /two      { vidgen_generate a b; }
        location = /backward { vidgen_generate c b a; }
        location = /capped   { vidgen_generate one a; vidgen_prefer one; }
        location = /value    { vidgen_generate a b c; vidgen_prefer $arg_p; }
        location = /canary   { vidgen_generate a b c; vidgen_prefer $canary; }
    }
}
EOT

my $user = customer($pg, 1000);
my $answer;

# Who is asked, in order.
sub asked {
    my ($uri, $order, $headers) = @_;

    my $before = @{ $standin->requests };
    $answer = post($nginx->url($uri), { user_id => $user,
        model_id => 'vision-1', prompt => 'p', %{ $order // {} } }, $headers);
    my @requests = @{ $standin->requests };
    return join ' ', map { $_->{uri} =~ s{^/}{}r }
        @requests[$before .. $#requests];
}

sub refused {
    my ($uri, $order, $code, $name) = @_;
    my $before = everything($pg);
    is(asked($uri, $order) . " $answer->{status} $answer->{json}{code}",
        " 400 $code", $name);
    is(everything($pg), $before, "$name: nothing is written");
}


is(asked('/all'), 'a', 'the order given');
is(asked('/backward'), 'c', 'another order');
is(asked('/all', { provider => 'b' }), 'b', "the body's");
is($answer->{json}{provider}, 'b', 'the answer names it');

$standin->next(status => 503);
is(asked('/all', { provider => 'c' }), 'c a',
    'where it fails the others follow in their order');

is(asked('/value?p=b'), 'b', 'that of vidgen_prefer');
is(asked('/value?p=b', { provider => 'c' }), 'b', '... goes before the body');
is(asked('/value', { provider => 'b' }), 'b', '... unless it is empty');

# what is no choice

refused('/all', { provider => 'nobody' }, 'unknown_provider', 'unknown');
refused('/value?p=A', {}, 'unknown_provider', 'unknown to vidgen_prefer');
refused('/two', { provider => 'c' }, 'unknown_provider',
    'one that the location does not list');
refused('/all', { provider => 'receiver' }, 'unknown_provider',
    'one that only receives webhooks');

$pg->query("INSERT INTO models (id, providers) VALUES ('b-only', '{b}')");
refused('/all', { provider => 'a', model_id => 'b-only' }, 'wrong_provider',
    'one that does not serve the model');

# a share of the clients

my %canary = map { $_ => asked('/canary', {}, { 'X-User' => "user-$_" }) }
    1 .. 60;
my $share = grep { $_ eq 'c' } values %canary;
ok($share > 5 && $share < 35 && !grep({ !/^[ac]$/ } values %canary),
    "a canary: $share of 60");
is_deeply([map { asked('/canary', {}, { 'X-User' => "user-$_" }) } 1 .. 60],
    [@canary{1 .. 60}], '... always the same clients');

# degraded, down, cooling, full

$standin->next(status => 503);
is(asked('/value?p=c'), 'c a', 'it fails');
is(asked('/value?p=c'), 'c', 'degraded: it goes first all the same');

$standin->next(status => 503);
is(asked('/value?p=c'), 'c a', 'it fails again');
is(asked('/backward'), 'b', '... but only if it is preferred');
for (1 .. 2) {
    $standin->next(status => 503);
    asked('/value?p=c');
}
is(asked('/value?p=c') . " $answer->{status}", 'a 200',
    'down: it is passed over');

$standin->next(status => 429, headers => { 'Retry-After' => 100 });
is(asked('/value?p=b'), 'b a', 'it has too many requests');
is(asked('/value?p=b') . " $answer->{status}", 'a 200',
    'cooling: it is passed over');

is(asked('/capped'), 'one', 'it has room for one job');
is(asked('/capped') . " $answer->{status}", 'a 200',
    'full: it is passed over');

is_deeply([wrong_books($pg)], [], 'the books are right');
is($pg->value('SELECT count(*) FROM provider_failover_log'), 6,
    'moves are logged, what is passed over is not');
is($nginx->wait_log(qr/from provider "b" to "a": http_429/) ne '', 1,
    'the error log has them too');
