#!/usr/bin/perl

# What vidgen.alert() lets two nginx say of one subject.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Postgres;
use VidgenTest::Sql;

# who, what it sees (or "sent": its message is delivered), since when; what it
# may do, about an outage that began when
my @cases = (
    ['an outage and its end',
        ['a', 'down', 100, 'send down 100'], ['b', 'down', 103, 'wait'],
        ['a', 'sent down', 100], ['b', 'down', 103, 'done'],
        ['b', 'up', 160, 'send up 100'], ['a', 'up', 161, 'wait'],
        ['b', 'sent up', 100], ['a', 'up', 161, 'done']],
    ['an end that one saw before the outage of the other',
        ['b', 'down', 200, 'send down 200'], ['b', 'sent down', 200],
        ['a', 'up', 161, 'done'], ['b', 'up', 230, 'send up 200']],
    ['in the same second',
        ['a', 'down', 100, 'send down 100'], ['a', 'sent down', 100],
        ['b', 'up', 100, 'send up 100']],
    ['the clock was set back',
        ['a', 'down', 100, 'send down 100'], ['a', 'sent down', 100],
        ['a', 'up', 40, 'send up 100']],
    ['over before it was said', ['a', 'down', 100, 'send down 100'],
        ['a', 'up', 110, 'send down 100']],
);

plan tests => scalar @cases;

my $sql = VidgenTest::Sql->new(VidgenTest::Postgres->new(fsync => 0));
my $n = 0;

for my $case (@cases) {
    my ($name, @steps) = @$case;
    my $subject = 'p' . $n++;
    my (@expected, @got);
    for (@steps) {
        my ($who, $word, $since, $expected) = @$_;
        if ($word =~ /^sent (\w+)/) {
            $sql->value("SELECT noted FROM vidgen.alerted('{$subject}', '{$1}',
                '{$since}', '{t}', '{f}', '{0}', '{$who}')");
            next;
        }
        push @expected, "$who $word: $expected";
        push @got, "$who $word: " . $sql->value("SELECT concat_ws(' ', outcome,
            kind, began) FROM vidgen.alert('{$subject}', '{$word}', '{$since}',
            '{0}', '{0}', '{60000}', '{$who}')");
    }
    is_deeply(\@got, \@expected, $name);
}
